"""A store within a time limit: when it is over, nobody waits for the store any more, whatever it is doing."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from queue import Empty
from typing import TypeVar

from imagetiers.errors import UnavailableError
from imagetiers.patience import answer_within
from imagetiers.stores.port import Blob, Store

__all__ = ["LimitedStore"]

_Answer = TypeVar("_Answer")


class LimitedStore:
    """A store whose calls raise UnavailableError when `left` says that no seconds are left.

    Each call runs in a thread that ends with the process. A write that was left behind may still happen.
    """

    def __init__(self, store: Store, left: Callable[[], float]) -> None:
        self._store = store
        self._left = left

    @property
    def url(self) -> str:
        """Where the store is."""
        return self._store.url

    def now(self) -> float:
        """Pass on."""
        return self._store.now()

    def read(self, name: str, *, start: int = 0, length: int | None = None) -> tuple[bytes, int]:
        """Pass on."""
        return self._ask(lambda: self._store.read(name, start=start, length=length))

    def read_into(self, name: str, memory: memoryview, *, start: int = 0) -> int:
        """Pass on."""
        data, _ = self._ask(lambda: self._store.read(name, start=start, length=len(memory)))
        memory[: len(data)] = data  # here, and not by a thread that may be left behind
        return len(data)

    def write(self, name: str, data: bytes | memoryview, *, if_generation: int | None = None) -> int:
        """Pass on."""
        held = bytes(data)  # of memory that holds something else by the time a thread that was left behind looks at it
        return self._ask(lambda: self._store.write(name, held, if_generation=if_generation))

    def read_file(self, name: str, path: Path) -> int:
        """Pass on."""
        return self._ask(lambda: self._store.read_file(name, path))

    def write_file(self, name: str, path: Path, *, if_generation: int | None = None) -> int:
        """Pass on."""
        return self._ask(lambda: self._store.write_file(name, path, if_generation=if_generation))

    def stat(self, name: str) -> Blob | None:
        """Pass on."""
        return self._ask(lambda: self._store.stat(name))

    def list(self, prefix: str = "") -> Iterator[Blob]:
        """Pass on; all of the listing at once."""
        return iter(self._ask(lambda: tuple(self._store.list(prefix))))

    def delete(self, name: str, *, if_generation: int | None = None) -> None:
        """Pass on."""
        self._ask(lambda: self._store.delete(name, if_generation=if_generation))

    def _ask(self, call: Callable[[], _Answer]) -> _Answer:
        left = self._left()
        if left <= 0:
            raise UnavailableError.of(self.url, "is not asked any more, for the time is over")
        try:
            return answer_within(left, call)
        except Empty:
            raise UnavailableError.of(self.url, "did not answer before the time was over") from None
