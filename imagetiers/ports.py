"""What the steps need of the world, as small Protocols. `imagetiers.world` has the real ones."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

__all__ = ["Blob", "Progress", "Store"]


@dataclass(frozen=True, slots=True)
class Blob:
    """What a store says of one object: its name, size in bytes, generation, and time of last write (Unix seconds)."""

    name: str
    size: int
    generation: int
    updated: float


class Store(Protocol):
    """Objects by name, with Google Cloud Storage's generation semantics (0 = does not exist).

    `if_generation` is a precondition on the object's generation at the moment of the write: None = none, 0 = create
    only, N = compare-and-swap. When it does not hold: PreconditionError. Every method may raise ForbiddenError,
    UnavailableError (after its own retries) and CorruptError (checksum mismatch); a read of what is not there raises
    NotFoundError. Names are relative to the store's prefix. All methods may be called from several threads.
    """

    @property
    def url(self) -> str:
        """Where this store is, for messages: `gs://bucket/prefix` or a directory."""
        ...

    def read(self, name: str, *, start: int = 0, length: int | None = None) -> tuple[bytes, int]:
        """Return the object's bytes (or a range of them) and its generation."""
        ...

    def write(self, name: str, data: bytes, *, if_generation: int | None = None) -> int:
        """Store bytes; return the new generation. Atomic: readers see all of it or nothing."""
        ...

    def read_file(self, name: str, path: Path) -> int:
        """Stream the object into `path` (temporary name, then rename); return its generation."""
        ...

    def write_file(self, name: str, path: Path, *, if_generation: int | None = None) -> int:
        """Stream a file into the object; return the new generation."""
        ...

    def stat(self, name: str) -> Blob | None:
        """Say what is stored under `name`, or None."""
        ...

    def list(self, prefix: str = "") -> Iterator[Blob]:
        """Yield every object whose name starts with `prefix`, in order of name."""
        ...

    def delete(self, name: str, *, if_generation: int | None = None) -> None:
        """Remove the object; removing what is not there is no error (unless a precondition says so)."""
        ...


class Progress(Protocol):
    """Told how far a transfer is, from any thread."""

    def start(self, total: int) -> None:
        """Say how many bytes there are in all; may be called again when more turn up."""
        ...

    def advance(self, amount: int) -> None:
        """Say that `amount` more bytes are done."""
        ...
