#include <stdio.h>
#include "maker.h"

int main(int count, char **words) {
  FILE *file = fopen(words[count - 1], "w");
  fprintf(file, "int made(void) { return %d; }\n", MADE);
  return fclose(file);
}
