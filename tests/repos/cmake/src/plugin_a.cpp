#include "demo/plugin.h"

extern "C" int plugin_a(int value) { return demo::plugged(value) + 1; }
