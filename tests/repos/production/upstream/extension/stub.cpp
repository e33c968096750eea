#include <Python.h>

static PyModuleDef module = {PyModuleDef_HEAD_INIT, "_C"};

PyMODINIT_FUNC PyInit__C() { return PyModule_Create(&module); }
