"""The port of every store: what it must do, and what it says of its objects."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

__all__ = ["Blob", "BucketSettings", "Progress", "Store"]


@dataclass(frozen=True, slots=True)
class Blob:
    """What a store says of one object: its name, size in bytes, generation, and time of last write (Unix seconds)."""

    name: str
    size: int
    generation: int
    updated: float


@dataclass(frozen=True, slots=True)
class BucketSettings:
    """What a bucket does by itself. `soft_delete` in seconds; `lifecycle` are its rules, as JSON texts."""

    soft_delete: int
    versioning: bool
    uniform_access: bool
    lifecycle: tuple[str, ...]


class Store(Protocol):
    """Objects by name, with Google Cloud Storage's generation semantics (0 = does not exist).

    `if_generation` is a precondition on the object's generation at the moment of the write: None = none, 0 = create
    only, N = compare-and-swap. When it does not hold: PreconditionError, and nothing has changed. When a write with a
    precondition returns, it was this call's write that won, also when another one stored the same bytes, and when the
    answer to an earlier try was lost. A name never has the same generation twice, not even after a delete.

    Every method may raise ForbiddenError, UnavailableError (after its own retries), CorruptError (checksum mismatch)
    and plain StoreError (no such bucket, disk full, invalid name); a read of what is not there raises NotFoundError.
    After UnavailableError or StoreError a write may have happened all the same: read again.

    Names are relative to the store's prefix: components joined by '/', none of them empty, '.' or '..', no control
    characters and no backslash, at most 768 bytes of UTF-8 in all and 240 a component. `a` and `a/b` may both exist.
    All methods may be called from several threads.
    """

    @property
    def url(self) -> str:
        """Where this store is, for messages: `gs://bucket/prefix` or a directory."""
        ...

    def now(self) -> float:
        """Return the time by the store's clock, in Unix seconds: ages are by it, for the machines that use it differ.

        A bucket tells it with its answers; before the first one it is this machine's.
        """
        ...

    def read(self, name: str, *, start: int = 0, length: int | None = None) -> tuple[bytes, int]:
        """Return the object's bytes, or at most `length` of them from `start`, and its generation.

        Ranges are clipped to the object; one that starts at or after its end is empty. A whole object is checked
        against its checksum, a range cannot be.
        """
        ...

    def read_into(self, name: str, memory: memoryview, *, start: int = 0) -> int:
        """Read the object's bytes from `start` on, as many as there is room for, into memory; return how many these are.

        They are not checked, not even where they are all of them: that is for who knows what they should be. Where this
        raises, some of the memory may have been written to.
        """
        ...

    def write(self, name: str, data: bytes | memoryview, *, if_generation: int | None = None) -> int:
        """Store bytes; return the new generation. Atomic: readers see all of it or nothing."""
        ...

    def read_file(self, name: str, path: Path) -> int:
        """Stream the object into `path` (temporary name, checksum, rename; makes folders); return its generation."""
        ...

    def write_file(self, name: str, path: Path, *, if_generation: int | None = None) -> int:
        """Stream a file into the object; return the new generation. The file must not change meanwhile."""
        ...

    def stat(self, name: str) -> Blob | None:
        """Say what is stored under `name`, or None."""
        ...

    def list(self, prefix: str = "") -> Iterator[Blob]:
        """Yield every object whose name starts with `prefix`, in order of name; what is not an object is left out."""
        ...

    def delete(self, name: str, *, if_generation: int | None = None) -> None:
        """Remove the object; removing what is not there is no error (unless a precondition N says so)."""
        ...


class Progress(Protocol):
    """Told how far a transfer is, from any thread."""

    def start(self, total: int) -> None:
        """Say how many bytes there are in all; may be called again when more turn up."""
        ...

    def advance(self, amount: int) -> None:
        """Say that `amount` more bytes are done."""
        ...
