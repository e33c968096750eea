#include "demo/banner.h"
#include "demo/base.h"
#include "demo/numbers.h"
#include "demo/version.h"
#include "extra.h"
#include "table.h"

extern "C" {
int made(void);
int plugin_a(int), plugin_b(int);
extern const char blob[];
int demo_value(void) { return numbers_sum(table, sizeof table / sizeof *table) + made() + EXTRA + plugin_a(1) + plugin_b(VERSION_MINOR); }
const char *demo_banner(void) { return BANNER; }
const char *demo_blob(void) { return blob; }
}
