"""A store that fails, and one that dies: at a chosen call, before it reaches the real store or after."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

from imagetiers.stores.port import Blob, Store
from tests.stores.into_memory import IntoMemory

T = TypeVar("T")


class Killed(BaseException):
    """Stands for kill -9: nothing in the code under test may catch it."""


class FaultyStore(IntoMemory):
    """Pass calls on; at call number `at` (from 1) raise `fault`, `after` the real store has done it or before.

    With `dead`, every later call raises, too: the process is gone, its other threads with it.
    """

    def __init__(
        self,
        store: Store,
        *,
        at: int = 0,
        fault: Callable[[], BaseException] = Killed,
        after: bool = False,
        dead: bool = True,
        verbs: tuple[str, ...] = (),
    ) -> None:
        self.store = store
        self.at = at
        self.fault = fault
        self.after = after
        self.dead = dead
        self.verbs = verbs
        self.calls: list[tuple[str, str]] = []
        self.hook: Callable[[str, str], object] | None = None
        self._lock = threading.Lock()

    @property
    def url(self) -> str:
        return self.store.url

    def now(self) -> float:
        return self.store.now()

    def _do(self, verb: str, name: str, call: Callable[[], T]) -> T:
        with self._lock:
            if not self.verbs or verb in self.verbs:
                self.calls.append((verb, name))
                number = len(self.calls)
            else:
                number = -1
        if self.hook:
            self.hook(verb, name)
        hit = self.at and (number == self.at or (self.dead and number > self.at))
        if hit and not (self.after and number == self.at):
            raise self.fault()
        result = call()
        if hit:
            raise self.fault()
        return result

    def read(self, name: str, *, start: int = 0, length: int | None = None) -> tuple[bytes, int]:
        return self._do("read", name, lambda: self.store.read(name, start=start, length=length))

    def write(self, name: str, data: bytes | memoryview, *, if_generation: int | None = None) -> int:
        return self._do("write", name, lambda: self.store.write(name, data, if_generation=if_generation))

    def read_file(self, name: str, path: Path) -> int:
        return self._do("read", name, lambda: self.store.read_file(name, path))

    def write_file(self, name: str, path: Path, *, if_generation: int | None = None) -> int:
        return self._do("write", name, lambda: self.store.write_file(name, path, if_generation=if_generation))

    def stat(self, name: str) -> Blob | None:
        return self._do("stat", name, lambda: self.store.stat(name))

    def list(self, prefix: str = "") -> Iterator[Blob]:
        return self._do("list", prefix, lambda: self.store.list(prefix))

    def delete(self, name: str, *, if_generation: int | None = None) -> None:
        self._do("delete", name, lambda: self.store.delete(name, if_generation=if_generation))
