"""A ccache namespace in a store: where its objects are, how its head is read, how it is changed by compare-and-swap.

    ccache/<namespace>/head            the only object that is ever overwritten
    ccache/<namespace>/packs/<name>    immutable, as are all below
    ccache/<namespace>/index/<name>    index segments
    ccache/<namespace>/sets/<name>     the working sets of a state
    ccache/<namespace>/notes/<name>    what is on its way out

Index segments, sets and notes are kept in a folder on this machine once they were read or written (their names vouch for
their bytes), so a warm push reads nothing but the head.

No state is written from a lossy view. What cannot be read is read again, on another connection, and then is still not
absent: a writer may add to such a state, but `commit` refuses one that would let go of what could not be read, unless
it is told to accept the loss. The heads are read and written here and nowhere else.
"""

from __future__ import annotations

import contextlib
import hashlib
import re
import secrets
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from itertools import chain, islice
from pathlib import Path

from imagetiers.ccache.format.head import (
    HEAD_MAX,
    HISTORY_MAX,
    INLINE_MAX,
    NOTES_MAX,
    SETS_MAX,
    Head,
    NamespaceState,
    SegmentRef,
    decode_head,
    decode_notes,
    decode_sets,
    encode_head,
    encode_notes,
    encode_sets,
)
from imagetiers.ccache.format.index import SEGMENT_ENTRIES, Entry, Rows, decode_segment, encode_segment, packs_in
from imagetiers.ccache.format.merge import View
from imagetiers.ccache.format.pack import PackRef, pack_ref
from imagetiers.errors import CorruptError, NotFoundError, PreconditionError, Problem, StoreError, UnavailableError
from imagetiers.naming import ending_in_hash
from imagetiers.parallel import map_parallel
from imagetiers.retry import jitter, pause
from imagetiers.stores.port import Blob, Store

__all__ = [
    "QUARANTINE",
    "SEEN",
    "Loaded",
    "Namespace",
    "Next",
    "describe",
    "is_namespace",
    "namespace_name",
    "unreadable",
]

_NAMESPACE = re.compile(r"[a-z0-9][a-z0-9._-]{0,99}")
_NAME_MAX = 100
_RELEASE_MAX = 20
_ATTEMPTS = 40
QUARANTINE = "quarantine"
"""The file among the kept segments that names the packs which a pull found damaged or missing."""

SEEN = "seen"
"""The file among the kept segments in which a push remembers what it has read (`known_files`)."""

_QUARANTINE_MAX = 1 << 24
_READS = 3
_THREADS = 8
_LOADS = 8
_FIRST_PAUSE = 0.25
_LONGEST_PAUSE = 8.0
_SEGMENT_MAX = 256 * 1024 * 1024


def namespace_name(trust: str, line: str, ccache_version: str) -> str:
    """Name a namespace by trust level, line of work (branch) and ccache's major.minor: other versions find nothing.

    Whatever is not allowed in a name becomes a hyphen. What would make it too long is cut off the line, and a hash of all
    takes its place: ccache's version stays. `("trusted", "main", "4.14.2")` -> `trusted.main.ccache-4.14`.
    """
    release = re.sub(r"[^a-z0-9.]", "-", ".".join(ccache_version.lower().split(".")[:2]))[:_RELEASE_MAX]
    suffix = f".ccache-{release}"
    text = f"{trust}.{line}".lower()
    name = re.sub(r"[^a-z0-9._-]", "-", text).lstrip("._-") or "none"
    room = _NAME_MAX - len(suffix)
    if len(name) > room:
        name = ending_in_hash(name, text, room)
    return name + suffix


def is_namespace(text: str) -> bool:
    """Say whether this may be a namespace's name."""
    return _NAMESPACE.fullmatch(text) is not None


def _pause(seconds: float) -> None:
    """Wait before another try. Raises UnavailableError when somebody asks to stop."""
    if not pause(seconds):
        raise UnavailableError.of("", "was not tried again, for somebody asked to stop")


@dataclass(frozen=True, slots=True)
class Loaded:
    """A namespace as it was read: its view, the head's generation (0 = none yet).

    `lost` names the index segments that could not be read, and the object of the working sets if that could not be: they
    are not in the view, which is to say unknown, not absent.
    """

    view: View
    generation: int = 0
    sha256: str = ""
    lost: tuple[str, ...] = ()

    @property
    def sets_lost(self) -> bool:
        """Whether the working sets are unknown."""
        sets = self.view.head.state.sets
        return sets is not None and any(name.endswith(sets.name) for name in self.lost)


@dataclass(frozen=True, slots=True)
class Next:
    """What a change makes of a namespace: the next state, its rows, and optionally other retired objects or history."""

    state: NamespaceState
    rows: tuple[Sequence[Entry], ...] | None = None
    retired: Mapping[str, float] | None = None
    history: tuple[NamespaceState, ...] | None = None


@dataclass(frozen=True, slots=True)
class Namespace:
    """One namespace of a store. `kept` is this machine's folder for index segments, or None."""

    store: Store
    namespace: str
    kept: Path | None = None
    nonce: str = field(default_factory=lambda: secrets.token_hex(8))
    pause: Callable[[float], None] = _pause

    def __post_init__(self) -> None:
        """Refuse a name that could leave the namespace's folder; raises ValueError."""
        if not is_namespace(self.namespace):
            raise ValueError(f"not a namespace: {self.namespace[:100]!r}")

    @property
    def segments(self) -> Path | None:
        """The folder of this namespace's kept index segments."""
        return self.kept / self.namespace if self.kept else None

    def object(self, folder: str, name: str = "") -> str:
        """Return an object's name: `object("head")`, `object("packs", NAME)`."""
        return f"ccache/{self.namespace}/{folder}{'/' if name else ''}{name}"

    def now(self) -> float:
        """Return the time by the store's clock, in Unix seconds."""
        return self.store.now()

    def listing(self) -> dict[str, Blob]:
        """Return all objects of the namespace, by name without the namespace. Raises StoreError."""
        prefix = self.object("")
        return {blob.name.removeprefix(prefix): blob for blob in self.store.list(prefix)}

    def load(self) -> Loaded:
        """Read the head and its segments. A namespace that does not exist is empty. Raises StoreError.

        A segment that is missing or damaged, also when it is read again, is left out and named in `lost`; a damaged head
        raises CorruptError.
        """
        for attempt in range(_LOADS):
            if attempt:
                self.pause(jitter(min(2.0, 0.1 * 2**attempt)))
            found = self._head()
            if found is None:
                return Loaded(View())
            head, generation, sha256 = found
            lost: list[str] = []
            with ThreadPoolExecutor(1, "ccache-load") as pool:  # sets and segments are in different objects
                pending = pool.submit(self._with_uses, head.state, lost)
                rows = self.rows(head.state, lost)
                state = pending.result()
            # Housekeeping may have been faster than this reader: then there is a newer head.
            if not lost or not self._moved_on(generation):
                return Loaded(View(replace(head, state=state), rows), generation, sha256, tuple(lost))
        raise UnavailableError.of(
            self.object("head"),
            f"was read {_LOADS} times and was each time an old one, whose index is gone",
            "run it again: a proxy may keep old answers, or other writers are very busy",
        )

    def with_uses(self, state: NamespaceState) -> NamespaceState:
        """Return a state with its working sets, read where they are stored. Raises CorruptError, NotFoundError."""
        if state.sets is None or state.uses:
            return state
        where = self.object("sets", state.sets.name)
        return replace(state, uses=decode_sets(self._immutable("sets", state.sets, SETS_MAX), where))

    def retired(self, head: Head) -> Mapping[str, float]:
        """Return the objects on their way out, and since when. Raises CorruptError, NotFoundError."""
        if head.notes is None:
            return head.retired
        where = self.object("notes", head.notes.name)
        return decode_notes(self._immutable("notes", head.notes, NOTES_MAX), where)

    def rows(self, state: NamespaceState, lost: list[str]) -> tuple[Sequence[Entry], ...]:
        """Read a state's segments; the rows of one that cannot be read are empty, and its name goes into `lost`."""

        def one(ref: SegmentRef) -> Sequence[Entry]:
            try:
                rows = decode_segment(self._immutable("index", ref.object, _SEGMENT_MAX), ref.object.name, ref.entries)
                if len(rows) == ref.entries:
                    return rows
            except (CorruptError, NotFoundError):
                pass
            lost.append(self.object("index", ref.object.name))
            return ()

        return tuple(map_parallel(one, state.segments, _THREADS))

    def segment(self, ref: SegmentRef) -> Rows:
        """Read an index segment of at most as many entries as the reference says. Raises CorruptError, NotFoundError."""
        data = self._immutable("index", ref.object, _SEGMENT_MAX)
        return decode_segment(data, self.object("index", ref.object.name), ref.entries)

    def write_segments(self, entries: Iterable[Entry]) -> tuple[tuple[SegmentRef, ...], tuple[Rows, ...]]:
        """Store entries as index segments, of SEGMENT_ENTRIES each but for the last; return their references and rows.

        Each is decoded before it is stored: what is written is what readers take. Raises StoreError.
        """
        refs: list[SegmentRef] = []
        rows: list[Rows] = []
        rest = iter(entries)
        for first in rest:  # they are never all there at once: what was encoded takes a sixth
            data = encode_segment(chain([first], islice(rest, SEGMENT_ENTRIES - 1)), secrets.token_hex(8))
            ref = pack_ref(data, self.nonce)
            where = self.object("index", ref.name)
            try:
                rows.append(decode_segment(data, where))
            except CorruptError:
                raise StoreError.of(where, "the new index segment would be one that no reader takes") from None
            self.create(where, data)
            self._keep(ref.name, data)
            refs.append(SegmentRef(ref, len(rows[-1])))
        return tuple(refs), tuple(rows)

    def create(self, name: str, data: bytes | memoryview) -> None:
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

    def commit(self, loaded: Loaded, change: Callable[[Loaded], Next | None], *, accept_loss: bool = False) -> Loaded:
        """Make the state that `change` computes the current one; after a lost race, read again and ask again.

        Returns what is current afterwards (`loaded` itself when `change` wants nothing). Raises StoreError, CorruptError
        where the new state would let go of something that could not be read. With `accept_loss` it does; the state before
        stays in the history, for the case that what is unreadable turns up again.
        """
        for attempt in range(_ATTEMPTS):
            following = change(loaded)
            if following is None:
                return loaded
            following = replace(following, state=_same_sets(loaded, following.state))
            given_up = _given_up(loaded, following.state)
            if given_up and not accept_loss:
                raise unreadable(loaded, given_up)
            head = self._next_head(loaded, following, keep_old=bool(given_up))
            data = encode_head(head, self.object("head"))
            sha256 = hashlib.sha256(data).hexdigest()
            rows = loaded.view.rows if following.rows is None else following.rows
            try:
                generation = self.store.write(self.object("head"), data, if_generation=loaded.generation)
                return Loaded(View(head, rows), generation, sha256)
            except PreconditionError:
                self.pause(jitter(min(_LONGEST_PAUSE, _FIRST_PAUSE * 2**attempt)))
                loaded = self.load()
                if loaded.sha256 == sha256:  # it was written after all, only the answer was lost
                    return loaded
        raise UnavailableError.of(
            self.object("head"), f"lost {_ATTEMPTS} races against other writers", "run it again when fewer are at work"
        )

    def replace_head(self, head: Head, generation: int) -> None:
        """Write a head in the place of a damaged one. Raises PreconditionError when that has changed, StoreError."""
        data = encode_head(self._stored(head), self.object("head"))
        self.store.write(self.object("head"), data, if_generation=generation)

    def restore(self, missing: Iterable[tuple[str, PackRef]]) -> list[str]:
        """Store index segments and sets (folder, object) again that are gone from the store but kept here.

        Their names say what their bytes are. Returns the names of those that are there again. Raises StoreError.
        """
        done = []
        for folder, ref in missing:
            data = self._kept(ref)
            if data is not None:
                self.create(self.object(folder, ref.name), data)
                done.append(self.object(folder, ref.name))
        return done

    def _next_head(self, loaded: Loaded, following: Next, *, keep_old: bool) -> Head:
        head = loaded.view.head
        state = replace(following.state, writer=f"{self.nonce}-{secrets.token_hex(4)}")
        made = head.followed_by(state, parent=loaded.sha256)
        retired = following.retired
        if retired is None and (head.retired or head.notes):
            retired = self._still_retired(loaded, following)
        if retired is not None:
            made = replace(made, retired=retired, notes=None)
        if following.history is not None:
            made = replace(made, history=following.history)
        if keep_old and all(state.sequence != head.state.sequence for state in made.history):
            made = replace(made, history=(*made.history, head.state)[-HISTORY_MAX:])
        return self._stored(made)

    def _still_retired(self, loaded: Loaded, following: Next) -> Mapping[str, float] | None:
        """Take the notes off what the new state refers to and the old one did not; None when there is no such note."""
        before = {ref.object.name for ref in loaded.view.head.state.segments}
        new = {f"index/{ref.object.name}" for ref in following.state.segments if ref.object.name not in before}
        if not new and following.state.sets == loaded.view.head.state.sets:
            return None
        rows = loaded.view.rows if following.rows is None else following.rows
        for ref, some in zip(following.state.segments, rows, strict=True):
            if ref.object.name not in before:
                new |= {f"packs/{pack.name}" for pack in packs_in(some)}
        if following.state.sets:
            new.add(f"sets/{following.state.sets.name}")
        retired = self.retired(loaded.view.head)
        return {name: at for name, at in retired.items() if name not in new} if new & retired.keys() else None

    def _stored(self, head: Head) -> Head:
        """Store what is too large for the head itself and is not stored yet: working sets, and the notes."""
        history = tuple(self._with_sets(state) for state in head.history)
        notes = head.notes
        if head.retired and notes is None:
            data = encode_notes(head.retired, self.object("notes"))
            notes = self._create("notes", data) if len(data) > INLINE_MAX else None
        return replace(head, state=self._with_sets(head.state), history=history, notes=notes)

    def _with_sets(self, state: NamespaceState) -> NamespaceState:
        if not state.uses or state.sets is not None:
            return state
        data = encode_sets(state.uses, self.object("sets"))
        return replace(state, sets=self._create("sets", data)) if len(data) > INLINE_MAX else state

    def _create(self, folder: str, data: bytes) -> PackRef:
        ref = pack_ref(data, secrets.token_hex(8))
        self.create(self.object(folder, ref.name), data)
        self._keep(ref.name, data)
        return ref

    def _with_uses(self, state: NamespaceState, lost: list[str]) -> NamespaceState:
        try:
            return self.with_uses(state)
        except (CorruptError, NotFoundError):
            lost.append(self.object("sets", state.sets.name if state.sets else ""))
            return state

    def _head(self) -> tuple[Head, int, str] | None:
        """Read the head; a damaged one again, in case that it was the reading. None when there is none."""
        where = self.object("head")
        for attempt in range(_READS):
            if attempt > 1:
                self.pause(0.05)
            try:
                data, generation = self.store.read(where, length=HEAD_MAX + 1)
                return decode_head(data, where), generation, hashlib.sha256(data).hexdigest()
            except NotFoundError:
                return None
            except CorruptError:
                if attempt == _READS - 1:
                    raise
        raise AssertionError  # pragma: no cover

    def _is_ours(self, name: str, size: int) -> None:
        blob = self.store.stat(name)
        if blob is None or blob.size != size:
            raise UnavailableError.of(name, "the store says that the object is there, but it is not")

    def _moved_on(self, generation: int) -> bool:
        blob = self.store.stat(self.object("head"))
        return blob is None or blob.generation != generation

    def _immutable(self, folder: str, ref: PackRef, most: int) -> bytes:
        """Read a segment, sets or notes: from here, else from the store, again when it is not what its name says."""
        if ref.size > most:
            raise CorruptError.of(ref.name, "an object too large to be what it is listed as")
        data = self._kept(ref)
        if data is not None:
            return data
        where = self.object(folder, ref.name)
        for attempt in range(_READS):
            if attempt > 1:
                self.pause(0.05)
            try:
                data, _ = self.store.read(where, length=ref.size + 1)
                if len(data) != ref.size or hashlib.sha256(data).hexdigest() != ref.sha256:
                    raise CorruptError.of(where, "the object is not what its name says")
                break
            except (CorruptError, NotFoundError):
                if attempt == _READS - 1:
                    raise
        assert data is not None  # noqa: S101  the loop ends by break or raise
        self._keep(ref.name, data)
        return data

    def _kept(self, ref: PackRef) -> bytes | None:
        """Return what is kept of an object on this machine, if it is what its name says."""
        if self.segments is None:
            return None
        with contextlib.suppress(OSError):
            path = self.segments / ref.name
            if path.stat().st_size == ref.size:
                data = path.read_bytes()
                if hashlib.sha256(data).hexdigest() == ref.sha256:
                    return data
        return None

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

    def quarantined(self) -> frozenset[str]:
        """Return the names of the packs that the last pull on this machine found damaged or missing."""
        if self.segments is None:
            return frozenset()
        with contextlib.suppress(OSError, ValueError), (self.segments / QUARANTINE).open(encoding="ascii") as file:
            return frozenset(file.read(_QUARANTINE_MAX).split())
        return frozenset()

    def quarantine(self, packs: Iterable[str]) -> None:
        """Note packs that a pull found damaged or missing, for the next push; none takes the note off."""
        if self.segments is None:
            return
        text = "\n".join(sorted(packs))
        with contextlib.suppress(OSError):
            if text:
                self.segments.mkdir(parents=True, exist_ok=True)
                (self.segments / QUARANTINE).write_text(text, encoding="ascii")
            else:
                (self.segments / QUARANTINE).unlink(missing_ok=True)

    def forget_segments(self, current: Head) -> None:
        """Remove what is kept here and the current head no longer names; also what a killed process left half written."""
        wanted = {ref.object.name for ref in current.state.segments} | {QUARANTINE, SEEN}
        wanted |= {ref.name for ref in (current.state.sets, current.notes) if ref is not None}
        if self.segments is None or not self.segments.is_dir():
            return
        with contextlib.suppress(OSError):
            for path in self.segments.iterdir():
                if path.name not in wanted:
                    path.unlink(missing_ok=True)


def _same_sets(loaded: Loaded, state: NamespaceState) -> NamespaceState:
    """Let a new state refer to the old one's working sets where they are the same."""
    old = loaded.view.head.state
    appended = state.segments[: len(old.segments)] == old.segments
    if state.sets is None and state.uses == old.uses and (state.uses or appended):
        return replace(state, sets=old.sets)
    return state


def _given_up(loaded: Loaded, state: NamespaceState) -> list[str]:
    """Return what could not be read and a new state would no longer refer to."""
    kept = {ref.object.name for ref in state.segments}
    if state.sets is not None:
        kept.add(state.sets.name)
    return [name for name in loaded.lost if name.rpartition("/")[2] not in kept]


def unreadable(loaded: Loaded, names: Sequence[str]) -> CorruptError:
    """Make the error of a change that would let go of what could not be read."""
    entries = {ref.object.name: ref.entries for ref in loaded.view.head.state.segments}
    hint = (
        "try again; if it is gone for good: doit ccache:verify --drop-bad --accept-loss, or ccache:prune --accept-loss"
    )

    def what(name: str) -> str:
        count = entries.get(name.rpartition("/")[2])
        listed = "working sets" if count is None else f"{count} entries"
        return f"cannot be read, so nothing is written: it lists {listed}"

    return CorruptError(*(Problem(name, what(name), hint) for name in names))


def describe(error: StoreError) -> str:
    """Return a store's error as one line."""
    return "; ".join(f"{p.where}: {p.what}" if p.where else p.what for p in error.problems)
