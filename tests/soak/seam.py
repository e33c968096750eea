"""The seam of a simulation: a store that meets faults, dies, sleeps, and lets others act in the middle of a call."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

from imagetiers.errors import CorruptError, ForbiddenError, NotFoundError, UnavailableError
from imagetiers.stores.port import Blob
from tests.soak.faults import Draw, Fault
from tests.soak.memory import MemoryStore
from tests.stores.into_memory import IntoMemory

T = TypeVar("T")


class Killed(BaseException):
    """Stands for kill -9: nothing in the code under test may catch it."""


class FaultyStore(IntoMemory):
    """One process's way to the store. `moment` is called before every call and may kill, sleep, or let others act."""

    def __init__(self, store: MemoryStore, draw: Draw, moment: Callable[[str, str], None]) -> None:
        self._store, self._draw, self._moment = store, draw, moment
        self.dead = False

    @property
    def url(self) -> str:
        return self._store.url

    def now(self) -> float:
        return self._store.now()

    def read(self, name: str, *, start: int = 0, length: int | None = None) -> tuple[bytes, int]:
        def call(fault: Fault | None) -> tuple[bytes, int]:
            data, generation = self._store.read(name, start=start, length=length)
            return (self._draw.flipped(data) if fault is Fault.FLIP else data), generation

        return self._do("read", name, call)

    def read_file(self, name: str, path: Path) -> int:
        def call(fault: Fault | None) -> int:
            generation = self._store.read_file(name, path)
            if fault is Fault.FLIP:
                path.write_bytes(self._draw.flipped(path.read_bytes()))
            return generation

        return self._do("read", name, call)

    def write(self, name: str, data: bytes | memoryview, *, if_generation: int | None = None) -> int:
        return self._do("write", name, lambda _: self._store.write(name, data, if_generation=if_generation))

    def write_file(self, name: str, path: Path, *, if_generation: int | None = None) -> int:
        return self._do("write", name, lambda _: self._store.write_file(name, path, if_generation=if_generation))

    def stat(self, name: str) -> Blob | None:
        return self._do("stat", name, lambda _: self._store.stat(name))

    def list(self, prefix: str = "") -> Iterator[Blob]:
        return iter(self._do("list", prefix, lambda _: list(self._store.list(prefix))))

    def delete(self, name: str, *, if_generation: int | None = None) -> None:
        self._do("delete", name, lambda _: self._store.delete(name, if_generation=if_generation))

    def _do(self, verb: str, name: str, call: Callable[[Fault | None], T]) -> T:
        if self.dead:
            raise Killed
        try:
            self._moment(verb, name)
        except Killed:
            self.dead = True
            raise
        fault = self._draw.next(content=verb == "read")
        before = _BEFORE.get(fault) if fault else None
        if fault is Fault.MISSING and (verb != "read" or name.endswith("/head")):
            before = None  # that there is no head, the port says for certain
        if before:
            raise before(name)
        result = call(fault)
        if fault is Fault.LOST_ANSWER:
            raise UnavailableError.of(name, "the answer was lost")
        return result


def _unavailable(name: str) -> Exception:
    return UnavailableError.of(name, "unavailable, after all tries")


_BEFORE: dict[Fault, Callable[[str], Exception]] = {
    **dict.fromkeys(
        (Fault.REFUSED, Fault.THROTTLED, Fault.RESET, Fault.CUT, Fault.STALL, Fault.DRIP, Fault.PORTAL), _unavailable
    ),
    Fault.FORBIDDEN: lambda name: ForbiddenError.of(name, "403, once"),
    Fault.MISSING: lambda name: NotFoundError.of(name, "404, once"),
    Fault.FLIP_TOLD: lambda name: CorruptError.of(name, "the checksum does not match"),
}
