"""The core library of PyTorch, c10, compiled from PyTorch's own source: where it is, and its symbols through ctypes."""

import ctypes
import functools
import pathlib

__version__ = "@VERSION@"

_HERE = pathlib.Path(__file__).resolve().parent
#: The shared library. A program that links against it names it with -l:libc10.so and an rpath to this folder.
LIBRARY = _HERE / "lib" / "@SONAME@"
#: The folder for -I: holds c10/core/Allocator.h and all the others.
INCLUDE = _HERE / "include"


@functools.cache
def load() -> ctypes.CDLL:
    """Load libc10 into this process, visible to libraries that are loaded later."""
    return ctypes.CDLL(str(LIBRARY), mode=ctypes.RTLD_GLOBAL)
