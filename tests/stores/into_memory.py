"""For stores of tests: reading into memory is reading, with all that a test has put before that."""

from __future__ import annotations

from typing import Protocol


class _Reader(Protocol):
    def read(self, name: str, *, start: int = 0, length: int | None = None) -> tuple[bytes, int]: ...


class IntoMemory:
    """Gives a store `read_into`."""

    def read_into(self: _Reader, name: str, memory: memoryview, *, start: int = 0) -> int:
        data, _ = self.read(name, start=start, length=len(memory))
        memory[: len(data)] = data
        return len(data)
