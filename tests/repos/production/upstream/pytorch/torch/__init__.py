"""A torch that can be told from no torch."""

from ctypes import CDLL
from pathlib import Path

from torch import _C  # noqa: F401
from torch.version import __version__  # noqa: F401

answer = CDLL(str(Path(__file__).parent / "lib" / "libtorch_cpu.so")).answer
