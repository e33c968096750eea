#define MADE 42
