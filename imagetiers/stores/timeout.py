"""Questions to the cache that nobody wants to wait for: a plan is shown at once, or without their answers."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from queue import Empty
from typing import TypeVar

from imagetiers.errors import UnavailableError
from imagetiers.patience import answer_within
from imagetiers.stores.port import Blob, Store

__all__ = ["TimeoutStore"]

_Answer = TypeVar("_Answer")
_SECONDS = 5.0


class TimeoutStore:
    """A store that waits `seconds` for each answer; after one that did not come, no further question is asked.

    What is asked runs in a thread that ends with the process: a bucket's own retries last minutes. Orders (writes,
    deletes) and transfers are passed on as they are. `error` says what was wrong, once a question had no answer.
    """

    def __init__(self, store: Store, seconds: float = _SECONDS) -> None:
        self._store = store
        self._seconds = seconds
        self.error = ""

    @property
    def url(self) -> str:
        """Where the store is."""
        return self._store.url

    def now(self) -> float:
        """Pass on."""
        return self._store.now()

    def read(self, name: str, *, start: int = 0, length: int | None = None) -> tuple[bytes, int]:
        """Ask; raises UnavailableError when it takes too long."""
        return self._ask(lambda: self._store.read(name, start=start, length=length))

    def read_into(self, name: str, memory: memoryview, *, start: int = 0) -> int:
        """Ask; raises UnavailableError when it takes too long."""
        data, _ = self._ask(lambda: self._store.read(name, start=start, length=len(memory)))
        memory[: len(data)] = data  # here, and not by a thread that may be left behind
        return len(data)

    def stat(self, name: str) -> Blob | None:
        """Ask; raises UnavailableError when it takes too long."""
        return self._ask(lambda: self._store.stat(name))

    def list(self, prefix: str = "") -> Iterator[Blob]:
        """Ask for all of the listing at once; raises UnavailableError when it takes too long."""
        return iter(self._ask(lambda: tuple(self._store.list(prefix))))

    def write(self, name: str, data: bytes | memoryview, *, if_generation: int | None = None) -> int:
        """Pass on."""
        return self._store.write(name, data, if_generation=if_generation)

    def read_file(self, name: str, path: Path) -> int:
        """Pass on."""
        return self._store.read_file(name, path)

    def write_file(self, name: str, path: Path, *, if_generation: int | None = None) -> int:
        """Pass on."""
        return self._store.write_file(name, path, if_generation=if_generation)

    def delete(self, name: str, *, if_generation: int | None = None) -> None:
        """Pass on."""
        self._store.delete(name, if_generation=if_generation)

    def _ask(self, question: Callable[[], _Answer]) -> _Answer:
        if self.error:
            raise UnavailableError.of(self.url, self.error)
        try:
            return answer_within(self._seconds, question)
        except Empty:
            self.error = f"did not answer within {self._seconds:g} s"
            raise UnavailableError.of(self.url, self.error) from None
        except UnavailableError as error:
            self.error = error.problems[0].what
            raise
