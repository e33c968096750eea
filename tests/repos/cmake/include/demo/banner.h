#define BANNER "demo"
