#pragma once
#include "demo/weights.h"

int numbers_sum(const int *first, int count);
