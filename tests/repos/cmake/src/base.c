#include "demo/base.h"
#include "config.h"

const char *base_name(void) { return "base " CONFIGURED; }
int base_twice(int value) { return 2 * value; }
