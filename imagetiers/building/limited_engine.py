"""An engine within a time limit: when it is over, nobody waits for the daemon's answers any more."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator
from queue import Empty
from typing import TYPE_CHECKING, TypeVar

from imagetiers.errors import EngineError, ImagetiersError
from imagetiers.patience import answer_within

if TYPE_CHECKING:
    from imagetiers.layers.image_config import ImageConfig
    from imagetiers.planning.containers import BuildImage, Container
    from imagetiers.planning.observed import CacheRecord, ImageInfo, Stored
    from imagetiers.services import ContainerLoad, ContainerState, Engine, EngineInfo, OnLine

__all__ = ["LimitedEngine"]

_PIECE = 1 << 20
_AFTER = 30.0
"""Seconds that ending and removing a container may take after the time is over."""

_LEAVING = 5.0
"""Seconds that a Ctrl-C waits for a container that is just being started, to remove it."""

_Answer = TypeVar("_Answer")


class LimitedEngine:
    """An engine whose answers are waited for only as long as `left` says; then it raises what `over` makes.

    Each call runs in a thread that ends with the process. What takes long by its nature (builds, transfers, following a
    container) is passed on: whoever asks for it ends it. A container whose start was left behind is removed once it is there.
    """

    def __init__(self, engine: Engine, left: Callable[[], float], over: Callable[[], ImagetiersError]) -> None:
        self._engine = engine
        self._left = left
        self._over = over

    def info(self) -> EngineInfo:
        """Pass on."""
        return self._ask(self._engine.info)

    def images(self) -> tuple[ImageInfo, ...]:
        """Pass on."""
        return self._ask(self._engine.images)

    def has_image(self, ref: str) -> bool:
        """Pass on."""
        return self._ask(lambda: self._engine.has_image(ref))

    def image_config(self, ref: str) -> ImageConfig:
        """Pass on."""
        return self._ask(lambda: self._engine.image_config(ref))

    def save(self, *refs: str) -> Iterator[bytes]:
        """Pass on: for each megabyte or so is waited, for Docker's pieces are small and waiting takes a thread."""
        pieces = self._ask(lambda: self._engine.save(*refs))
        while piece := self._ask(lambda: _together(pieces)):
            yield piece

    def layers(self, ref: str) -> tuple[str, ...]:
        """Pass on."""
        return self._ask(lambda: self._engine.layers(ref))

    def build(self, build: BuildImage, context: Iterable[bytes], on_line: OnLine, seconds: float | None = None) -> None:
        """Pass on; it has a limit of its own."""
        self._engine.build(build, context, on_line, seconds)

    def tag(self, ref: str, tags: tuple[str, ...]) -> None:
        """Pass on."""
        self._ask(lambda: self._engine.tag(ref, tags))

    def untag(self, ref: str) -> bool:
        """Pass on."""
        return self._ask(lambda: self._engine.untag(ref))

    def stored(self) -> Stored:
        """Pass on."""
        return self._ask(self._engine.stored)

    def build_cache(self) -> tuple[CacheRecord, ...]:
        """Pass on."""
        return self._ask(self._engine.build_cache)

    def prune_build_cache(self, ids: Iterable[str]) -> frozenset[str]:
        """Pass on."""
        return self._ask(lambda: self._engine.prune_build_cache(ids))

    def push(self, ref: str, on_line: OnLine) -> str:
        """Pass on, without a limit."""
        return self._engine.push(ref, on_line)

    def pull(self, ref: str, on_line: OnLine) -> None:
        """Pass on, without a limit."""
        self._engine.pull(ref, on_line)

    def find_containers(self, label: str, value: str) -> tuple[ContainerState, ...]:
        """Pass on."""
        return self._ask(lambda: self._engine.find_containers(label, value))

    def start(self, container: Container, files: bytes | None = None, stdin: bytes | None = None) -> str:
        """Pass on; what starts after all, when nobody waits for it any more, is removed: a Ctrl-C waits seconds for that."""
        lock, ended = threading.Lock(), threading.Event()
        left_behind, started = False, list[str]()

        def work() -> str:
            try:
                container_id = self._engine.start(container, files, stdin)
                with lock:
                    started.append(container_id)
                if left_behind:
                    self._engine.remove(container_id)
            finally:
                ended.set()
            return container_id

        try:
            return self._ask(work)
        except BaseException as error:
            with lock:
                left_behind, there = True, started.copy()
            for container_id in there:
                self.remove(container_id)
            if isinstance(error, KeyboardInterrupt):  # the thread ends with the process, which ends now
                ended.wait(_LEAVING)
            raise

    def load(self, container_id: str) -> ContainerLoad:
        """Pass on."""
        return self._ask(lambda: self._engine.load(container_id))

    def follow(self, container_id: str, on_line: OnLine) -> int:
        """Pass on, without a limit: ending the container ends it."""
        return self._engine.follow(container_id, on_line)

    def stop(self, container_id: str, grace: int) -> None:
        """Pass on; also when the time is over."""
        self._end(lambda: self._engine.stop(container_id, grace))

    def remove(self, container_id: str) -> None:
        """Pass on; also when the time is over."""
        self._end(lambda: self._engine.remove(container_id))

    def _ask(self, call: Callable[[], _Answer]) -> _Answer:
        try:
            return answer_within(max(0.0, self._left()), call)
        except Empty:
            raise self._over() from None

    def _end(self, call: Callable[[], None]) -> None:
        try:
            answer_within(max(0.0, self._left()) + _AFTER, call)
        except Empty:
            hint = "docker ps --all shows what is left"
            raise EngineError.of("docker", "the Docker daemon did not answer before the time was over", hint) from None


def _together(pieces: Iterator[bytes]) -> bytes:
    """Return the next pieces in one; empty at the end."""
    found = bytearray()
    while len(found) < _PIECE and (piece := next(pieces, None)) is not None:
        found += piece
    return bytes(found)
