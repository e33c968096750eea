#pragma once
#ifdef __cplusplus
extern "C" {
#endif
const char *base_name(void);
int base_twice(int value);
#ifdef __cplusplus
}
#endif
