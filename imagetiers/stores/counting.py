"""How many requests an operation cost."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

from imagetiers.stores.port import Blob, Store

__all__ = ["CountingStore"]


class CountingStore:
    """A store that counts its calls, and how many of them wrote; a listing counts as one, whatever its pages."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._lock = threading.Lock()
        self.requests = 0
        self.written = 0

    @property
    def url(self) -> str:
        """Where the store is."""
        return self._store.url

    def now(self) -> float:
        """Pass on."""
        return self._store.now()

    def read(self, name: str, *, start: int = 0, length: int | None = None) -> tuple[bytes, int]:
        """Count and pass on."""
        return self._counted().read(name, start=start, length=length)

    def read_into(self, name: str, memory: memoryview, *, start: int = 0) -> int:
        """Count and pass on."""
        return self._counted().read_into(name, memory, start=start)

    def write(self, name: str, data: bytes | memoryview, *, if_generation: int | None = None) -> int:
        """Count and pass on."""
        return self._wrote(self._counted().write(name, data, if_generation=if_generation))

    def read_file(self, name: str, path: Path) -> int:
        """Count and pass on."""
        return self._counted().read_file(name, path)

    def write_file(self, name: str, path: Path, *, if_generation: int | None = None) -> int:
        """Count and pass on."""
        return self._wrote(self._counted().write_file(name, path, if_generation=if_generation))

    def stat(self, name: str) -> Blob | None:
        """Count and pass on."""
        return self._counted().stat(name)

    def list(self, prefix: str = "") -> Iterator[Blob]:
        """Count and pass on."""
        return self._counted().list(prefix)

    def delete(self, name: str, *, if_generation: int | None = None) -> None:
        """Count and pass on."""
        self._counted().delete(name, if_generation=if_generation)

    def _wrote(self, generation: int) -> int:
        with self._lock:
            self.written += 1
        return generation

    def _counted(self) -> Store:
        with self._lock:
            self.requests += 1
        return self._store
