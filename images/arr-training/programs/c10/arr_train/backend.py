"""Gradient descent in C++, on c10's memory, types and errors (fit.cpp)."""

import ctypes
import pathlib

import numpy
import pytorch_c10

from arr_train.line import Line

NAME = f"c10 {pytorch_c10.__version__}"

pytorch_c10.load()
_fit = ctypes.CDLL(str(pathlib.Path(__file__).with_name("libfit.so"))).fit
_array = numpy.ctypeslib.ndpointer(numpy.float32, ndim=1, flags="C_CONTIGUOUS")
_fit.restype = ctypes.c_int
_fit.argtypes = [_array, _array, ctypes.c_int64, ctypes.c_int64, ctypes.c_float]
_fit.argtypes += [ctypes.POINTER(ctypes.c_float), ctypes.c_char_p, ctypes.c_size_t]


def start() -> Line:
    """Nothing is known."""
    return Line(0.0, 0.0, float("inf"))


def advance(line: Line, x: numpy.ndarray, y: numpy.ndarray, steps: int, rate: float) -> Line:
    """Go a number of steps down the gradient."""
    state = (ctypes.c_float * 3)(line.weight, line.bias, line.loss)
    message = ctypes.create_string_buffer(1000)
    if _fit(x, y, len(x), steps, rate, state, message, len(message)):
        raise ValueError(message.value.decode())
    return Line(*state)
