#include "demo/plugin.h"
#include "extra.h"

extern "C" int plugin_b(int value) { return demo::plugged(value) * EXTRA; }
