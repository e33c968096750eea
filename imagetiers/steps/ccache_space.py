"""A ccache namespace in a store: where its objects are, how its head is read, how it is changed by compare-and-swap.

    ccache/<namespace>/head            the only object that is ever overwritten
    ccache/<namespace>/packs/<name>    immutable
    ccache/<namespace>/index/<name>    immutable

Segments are kept in a folder on this machine once they were read or written (their names vouch for their bytes), so a
warm push reads nothing but the head.
"""

from __future__ import annotations

import contextlib
import hashlib
import random
import re
import secrets
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path

from imagetiers.ccache.head import Head, SegmentRef, State, decode_head, encode_head
from imagetiers.ccache.index import Entry, decode_segment, encode_segment
from imagetiers.ccache.merge import View
from imagetiers.ccache.pack import PackRef, pack_ref
from imagetiers.errors import CorruptError, NotFoundError, PreconditionError, StoreError, UnavailableError
from imagetiers.ports import Store

__all__ = ["Loaded", "Next", "Space", "namespace_name"]

_NAMESPACE = re.compile(r"[a-z0-9][a-z0-9._-]{0,99}")
_ATTEMPTS = 40
_FIRST_PAUSE = 0.25
_LONGEST_PAUSE = 8.0
_SEGMENT_MAX = 256 * 1024 * 1024


def namespace_name(trust: str, line: str, ccache_version: str) -> str:
    """Name a namespace by trust level, line of work (branch) and ccache's major.minor: other versions find nothing.

    Whatever is not allowed in a name becomes a hyphen. `("trusted", "main", "4.14.2")` -> `trusted.main.ccache-4.14`.
    """
    release = ".".join(ccache_version.split(".")[:2])
    text = f"{trust}.{line}.ccache-{release}".lower()
    return re.sub(r"[^a-z0-9._-]", "-", text)[:100].lstrip("._-") or "none"


@dataclass(frozen=True, slots=True)
class Loaded:
    """A namespace as it was read: its view, the head's generation (0 = none yet), and segments that were lost."""

    view: View
    generation: int = 0
    sha256: str = ""
    lost: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Next:
    """What a change makes of a namespace: the next state, its rows, and optionally other retired objects or history."""

    state: State
    rows: tuple[tuple[Entry, ...], ...] | None = None
    retired: Mapping[str, float] | None = None
    history: tuple[State, ...] | None = None


@dataclass(frozen=True, slots=True)
class Space:
    """One namespace of a store. `kept` is this machine's folder for index segments, or None."""

    store: Store
    namespace: str
    kept: Path | None = None
    nonce: str = field(default_factory=lambda: secrets.token_hex(8))
    pause: Callable[[float], None] = time.sleep

    def __post_init__(self) -> None:
        """Refuse a name that could leave the namespace's folder; raises ValueError."""
        if not _NAMESPACE.fullmatch(self.namespace):
            raise ValueError(f"not a namespace: {self.namespace[:100]!r}")

    @property
    def segments(self) -> Path | None:
        """The folder of this namespace's kept index segments."""
        return self.kept / self.namespace if self.kept else None

    def object(self, folder: str, name: str = "") -> str:
        """Return an object's name: `object("head")`, `object("packs", NAME)`."""
        return f"ccache/{self.namespace}/{folder}{'/' if name else ''}{name}"

    def load(self) -> Loaded:
        """Read the head and its segments. A namespace that does not exist is empty. Raises StoreError.

        A segment that is missing or damaged is left out and named in `lost`; a damaged head raises CorruptError.
        """
        lost: list[str] = []
        while True:
            try:
                data, generation = self.store.read(self.object("head"))
            except NotFoundError:
                return Loaded(View())
            head = decode_head(data, self.object("head"))
            lost.clear()
            rows = self.rows(head.state, lost)
            if lost and self._moved_on(generation):
                continue  # housekeeping was faster than this reader
            return Loaded(View(head, rows), generation, hashlib.sha256(data).hexdigest(), tuple(lost))

    def rows(self, state: State, lost: list[str]) -> tuple[tuple[Entry, ...], ...]:
        """Read a state's segments; the rows of one that cannot be read are empty, and its name goes into `lost`."""

        def one(ref: SegmentRef) -> tuple[Entry, ...]:
            try:
                rows = decode_segment(self._segment(ref.object), ref.object.name)
                if len(rows) == ref.entries:
                    return rows
            except (CorruptError, NotFoundError):
                pass
            lost.append(self.object("index", ref.object.name))
            return ()

        if len(state.segments) <= 1:
            return tuple(map(one, state.segments))
        with ThreadPoolExecutor(8, "ccache-index") as pool:
            return tuple(pool.map(one, state.segments))

    def write_segment(self, entries: tuple[Entry, ...]) -> SegmentRef:
        """Store an index segment (create-only) and keep it here; return its reference. Raises StoreError."""
        data = encode_segment(entries, secrets.token_hex(8))
        ref = pack_ref(data, self.nonce)
        self.create(self.object("index", ref.name), data)
        self._keep(ref.name, data)
        return SegmentRef(ref, len(entries))

    def create(self, name: str, data: bytes) -> None:
        """Store an object that only this push can have written: it being there means that an answer was lost."""
        try:
            self.store.write(name, data, if_generation=0)
        except PreconditionError:
            self._is_ours(name, len(data))

    def create_file(self, name: str, path: Path) -> None:
        """Stream a file into an object that only this push can have written."""
        try:
            self.store.write_file(name, path, if_generation=0)
        except PreconditionError:
            self._is_ours(name, path.stat().st_size)

    def commit(self, loaded: Loaded, change: Callable[[Loaded], Next | None]) -> Loaded:
        """Make the state that `change` computes the current one; after a lost race, read again and ask again.

        Returns what is current afterwards (`loaded` itself when `change` wants nothing). Raises StoreError.
        """
        for attempt in range(_ATTEMPTS):
            following = change(loaded)
            if following is None:
                return loaded
            head = self._next_head(loaded, following)
            data = encode_head(head)
            sha256 = hashlib.sha256(data).hexdigest()
            rows = loaded.view.rows if following.rows is None else following.rows
            try:
                generation = self.store.write(self.object("head"), data, if_generation=loaded.generation)
                return Loaded(View(head, rows), generation, sha256)
            except PreconditionError:
                self.pause(random.uniform(0, min(_LONGEST_PAUSE, _FIRST_PAUSE * 2**attempt)))  # noqa: S311  jitter
                loaded = self.load()
                if loaded.sha256 == sha256:  # it was written after all, only the answer was lost
                    return loaded
        raise UnavailableError.of(
            self.object("head"), f"lost {_ATTEMPTS} races against other writers", "run it again when fewer are at work"
        )

    def _next_head(self, loaded: Loaded, following: Next) -> Head:
        head = loaded.view.head
        state = replace(following.state, writer=f"{self.nonce}-{secrets.token_hex(4)}")
        retired = dict(head.retired if following.retired is None else following.retired)
        for ref in state.segments:
            retired.pop(f"index/{ref.object.name}", None)
        for rows in loaded.view.rows if following.rows is None else following.rows:
            for name in {entry.pack.name for entry in rows} if retired else ():
                retired.pop(f"packs/{name}", None)
        made = head.followed_by(state, parent=loaded.sha256, retired=retired)
        return made if following.history is None else replace(made, history=following.history)

    def _is_ours(self, name: str, size: int) -> None:
        blob = self.store.stat(name)
        if blob is None or blob.size != size:
            raise UnavailableError.of(name, "the store says that the object is there, but it is not")

    def _moved_on(self, generation: int) -> bool:
        blob = self.store.stat(self.object("head"))
        return blob is None or blob.generation != generation

    def _segment(self, ref: PackRef) -> bytes:
        if ref.size > _SEGMENT_MAX:
            raise CorruptError.of(ref.name, "an index segment too large to be one")
        kept = self.segments / ref.name if self.segments else None
        if kept is not None:
            with contextlib.suppress(OSError):
                data = kept.read_bytes()
                if hashlib.sha256(data).hexdigest() == ref.sha256:
                    return data
        data, _ = self.store.read(self.object("index", ref.name))
        if len(data) != ref.size or hashlib.sha256(data).hexdigest() != ref.sha256:
            raise CorruptError.of(self.object("index", ref.name), "the index segment is not what its name says")
        self._keep(ref.name, data)
        return data

    def _keep(self, name: str, data: bytes) -> None:
        """Keep a segment here. A full or read-only disk is no reason to fail: it is then read again."""
        if self.segments is None:
            return
        with contextlib.suppress(OSError):
            self.segments.mkdir(parents=True, exist_ok=True)
            temporary = self.segments / f".{secrets.token_hex(8)}"
            try:
                temporary.write_bytes(data)
                temporary.replace(self.segments / name)
            finally:
                temporary.unlink(missing_ok=True)

    def forget_segments(self, current: State) -> None:
        """Remove the kept segments that the current state no longer names."""
        wanted = {ref.object.name for ref in current.segments}
        if self.segments is None or not self.segments.is_dir():
            return
        with contextlib.suppress(OSError):
            for path in self.segments.iterdir():
                if path.name not in wanted:
                    path.unlink(missing_ok=True)


def describe(error: StoreError) -> str:
    """Return a store's error as one line."""
    return "; ".join(f"{p.where}: {p.what}" if p.where else p.what for p in error.problems)
