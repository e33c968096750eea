"""Services that are imported and made when they are first used: most runs of doit use few of them."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any, TypeVar, cast

__all__ = ["later"]

_Made = TypeVar("_Made")


def later(make: Callable[[], _Made]) -> _Made:
    """Return what stands for the object that `make` returns, which is called at the first use, once."""
    return cast("_Made", _Later(make))


class _Later:
    """Passes every attribute on that it has not itself."""

    def __init__(self, make: Callable[[], Any]) -> None:
        self._make: Callable[[], Any] | None = make
        self._made: Any = None
        self._lock = threading.Lock()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._object(), name)

    def __reduce__(self) -> tuple[Callable[[Any], Any], tuple[Any]]:
        """Let another process have the object itself."""
        return _itself, (self._object(),)

    def _object(self) -> Any:
        with self._lock:
            if self._make is not None:
                self._made, self._make = self._make(), None
            return self._made


def _itself(made: Any) -> Any:
    return made
