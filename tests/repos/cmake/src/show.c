#include <stdio.h>
#include "demo/base.h"

int demo_value(void);
const char *demo_banner(void);

int main(void) { return printf("%s %s %d\n", base_name(), demo_banner(), demo_value()) < 0; }
