#include "demo/numbers.h"

int numbers_sum(const int *first, int count) {
  int sum = 0;
  for (int at = 0; at < count; at++) sum += demo::weight(at) * first[at];
  return sum;
}
