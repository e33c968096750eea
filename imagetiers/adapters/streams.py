"""The standard streams, made hard to break: by a text that they cannot encode, and by a reader that has gone (`| head`)."""

from __future__ import annotations

import contextlib
import io
import os
import sys
from collections.abc import Callable
from typing import Any

__all__ = ["harden"]


def harden() -> None:
    """Let standard output and error take any text, and go quiet when nobody reads them any more.

    The streams are changed in place, since doit holds them already. What runs goes on to its end, as its exit code tells:
    a compile is not lost to a `head`.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
            _quiet(stream)


def _quiet(stream: io.TextIOWrapper) -> None:
    with contextlib.suppress(OSError, ValueError):
        descriptor = stream.fileno()
        for name in ("write", "flush"):
            setattr(stream, name, _guarded(getattr(stream, name), descriptor))


def _guarded(method: Callable[..., Any], descriptor: int) -> Callable[..., Any]:
    def call(*args: Any) -> Any:
        try:
            return method(*args)
        except BrokenPipeError:
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, descriptor)
            os.close(nowhere)
            return len(args[0]) if args else None

    return call
