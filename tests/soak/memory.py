"""A store in memory, for simulations: exact generations, the clock's time, and somebody who watches every change."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from imagetiers.errors import NotFoundError, PreconditionError
from imagetiers.stores.names import check_name
from imagetiers.stores.port import Blob
from tests.stores.into_memory import IntoMemory


class Watcher(Protocol):
    """Told of every change after it has happened."""

    def wrote(self, name: str, data: bytes) -> None: ...
    def deleted(self, name: str) -> None: ...


@dataclass(frozen=True, slots=True)
class _Object:
    data: bytes
    generation: int
    updated: float


class MemoryStore(IntoMemory):
    """The Store port on a dict; never fails by itself."""

    url = "memory"

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        self._objects: dict[str, _Object] = {}
        self._generation = 1_000_000
        self.watcher: Watcher | None = None

    def now(self) -> float:
        """Return the store's own time, in Unix seconds."""
        return self._now()

    def get(self, name: str) -> bytes | None:
        """Return an object's bytes, past every fault."""
        found = self._objects.get(name)
        return found.data if found else None

    def names(self) -> list[str]:
        return sorted(self._objects, key=str.encode)

    def read(self, name: str, *, start: int = 0, length: int | None = None) -> tuple[bytes, int]:
        found = self._there(name)
        end = None if length is None else start + length
        return found.data[start:end], found.generation

    def write(self, name: str, data: bytes | memoryview, *, if_generation: int | None = None) -> int:
        check_name(name)
        self._check(name, if_generation)
        self._generation += 1
        content = bytes(data)
        self._objects[name] = _Object(content, self._generation, self._now())
        if self.watcher:
            self.watcher.wrote(name, content)
        return self._generation

    def read_file(self, name: str, path: Path) -> int:
        found = self._there(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(found.data)
        return found.generation

    def write_file(self, name: str, path: Path, *, if_generation: int | None = None) -> int:
        return self.write(name, path.read_bytes(), if_generation=if_generation)

    def stat(self, name: str) -> Blob | None:
        check_name(name)
        found = self._objects.get(name)
        return Blob(name, len(found.data), found.generation, found.updated) if found else None

    def list(self, prefix: str = "") -> Iterator[Blob]:
        for name in self.names():
            if name.startswith(prefix) and (blob := self.stat(name)):
                yield blob

    def delete(self, name: str, *, if_generation: int | None = None) -> None:
        check_name(name)
        self._check(name, if_generation)
        if self._objects.pop(name, None) and self.watcher:
            self.watcher.deleted(name)

    def _there(self, name: str) -> _Object:
        check_name(name)
        if name not in self._objects:
            raise NotFoundError.of(name, "no such object")
        return self._objects[name]

    def _check(self, name: str, expected: int | None) -> None:
        found = self._objects.get(name)
        if expected is not None and expected != (found.generation if found else 0):
            raise PreconditionError.of(name, "another writer was first")
