"""The auditor: sits below every fault, sees each change of the true objects, and holds it against the rules.

Heads are linear, so each one is held against the one before it, whoever wrote it and whether he lived to tell: only a
prune may let entries go, and only those that nobody has pushed for longer than it was told; a `verify --drop-bad` only
what really is bad; a rollback makes exactly an earlier state. What a head refers to must be there when it is written,
and as long as it is the head.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Container, Mapping, Sequence
from dataclasses import dataclass, field

from imagetiers.ccache.format.head import Head, NamespaceState, SegmentRef, decode_head
from imagetiers.ccache.format.index import Entry, decode_segment
from imagetiers.ccache.format.merge import supersedes, version_of
from imagetiers.errors import CorruptError

_SNAPSHOTS = 60  # kept of each namespace
_FOLDERS = ("packs", "index", "sets", "notes", "wheels", "keys", "records")
_SAMPLE = 4  # names that a violation shows


@dataclass(frozen=True, slots=True)
class Violation:
    """A rule that was broken: which, in which namespace or process, and what was seen."""

    rule: str
    where: str
    seen: str

    def __str__(self) -> str:
        return f"{self.rule} [{self.where}]: {self.seen}"


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A namespace as one head had it; `objects` are all that it refers to, by the folder and name."""

    sequence: int
    reason: str
    at: float
    live: Mapping[str, Entry]
    objects: frozenset[str]


@dataclass(frozen=True, slots=True)
class PushReport:
    """What a push has said: all `contents` (content ids by name) are there, `pushed` because of it; begun at `since`."""

    who: str
    sequence: int
    contents: Mapping[str, bytes]
    pushed: frozenset[str]
    since: float
    looked: bool = True  # whether such a push looks what the store has: a checkpoint with nothing new does not


@dataclass
class _Namespace:
    snapshots: dict[int, Snapshot] = field(default_factory=dict)
    last: Snapshot | None = None
    vouched: dict[str, float] = field(
        default_factory=dict
    )  # by name: the store's time from which its age counts at the latest
    damaged: dict[str, float] = field(default_factory=dict)  # objects that the soak itself has taken away, and when


class Auditor:
    """Watches one store's namespaces. `get` reads a true object, `now` is the store's time (Unix s).

    `max_age` is the shortest age (s) at which any prune of this soak may drop an entry.
    """

    def __init__(self, get: Callable[[str], bytes | None], now: Callable[[], float], *, max_age: float) -> None:
        self._get, self._now, self._max_age = get, now, max_age
        self._namespaces: dict[str, _Namespace] = {}
        self._rows: dict[str, tuple[Entry, ...]] = {}
        self.violations: list[Violation] = []
        self.wheels: dict[str, float] = {}
        self.deletions: Counter[str] = Counter()
        self.heads = 0

    def wrote(self, name: str, data: bytes) -> None:
        """Take note of an object's new content."""
        kind, namespace, rest = _split(name)
        if "wheels/" in name:
            self.wheels[name] = self._now()
        if kind == "ccache" and rest == "head":
            self.heads += 1
            self._head(namespace, data)

    def deleted(self, name: str) -> None:
        """Take note of a deletion: nothing that the head refers to may go, and no wheels that are young."""
        self.deletions[next((folder for folder in _FOLDERS if f"/{folder}/" in f"/{name}"), "other")] += 1
        if (at := self.wheels.pop(name, None)) is not None and self._now() - at < self._max_age:
            self._violated("removed young wheels", name, f"{self._now() - at:.0f} s old")
        kind, namespace, rest = _split(name)
        space = self._namespaces.get(namespace) if kind == "ccache" else None
        if space and space.last and rest in space.last.objects and rest not in space.damaged:
            self._violated("deleted what is referred to", namespace, f"{rest} by state {space.last.sequence}")

    def damage(self, name: str) -> None:
        """Say that the soak itself removes this pack: what lies in it is excused until it is pushed again."""
        _, namespace, rest = _split(name)
        self._namespaces.setdefault(namespace, _Namespace()).damaged[rest] = self._now()

    def reported(self, namespace: str, report: PushReport) -> None:
        """Hold a push's report against the state it names.

        What was there already when the push began, and was pruned or rolled back meanwhile, is no lie.
        """
        space = self._namespaces.setdefault(namespace, _Namespace())
        snapshot = space.snapshots.get(report.sequence)
        if snapshot is None:
            self._violated("reported a state that never was", namespace, f"{report.who} says {report.sequence}")
            return
        missing = [
            name
            for name, content in report.contents.items()
            if not ((entry := snapshot.live.get(name)) and _holds(entry, content))
            and not (name not in report.pushed and _taken_meanwhile(space, name, report))
        ]
        gone = {item for item, at in space.damaged.items() if at < report.since}
        if report.looked and (
            lying := [n for n in report.contents if n in snapshot.live and _lies_in(snapshot, n, gone)]
        ):
            self._violated("says that it is there, but its pack is gone", namespace, f"{report.who}: {_some(lying)}")
        if missing:
            self._violated(
                "reported as pushed, but is not there",
                namespace,
                f"{report.who}, state {report.sequence}: {_some(missing)}",
            )

    def current(self, namespace: str) -> Snapshot | None:
        """Return the namespace as its current head has it."""
        space = self._namespaces.get(namespace)
        return space.last if space else None

    @property
    def namespaces(self) -> Sequence[str]:
        return [name for name, space in self._namespaces.items() if space.last]

    def forget_old(self) -> None:
        """Drop what no later head can be held against: a soak of an hour sees thousands."""
        wanted: set[str] = set()
        for name, space in self._namespaces.items():
            for number in sorted(space.snapshots)[:-_SNAPSHOTS]:
                del space.snapshots[number]
            for snapshot in space.snapshots.values():
                wanted |= {f"{name}/{item}" for item in snapshot.objects}
            if space.last:
                space.vouched = {key: at for key, at in space.vouched.items() if self._now() - at < 10 * self._max_age}
        self._rows = {key: rows for key, rows in self._rows.items() if key in wanted}

    def lost(self, namespace: str) -> frozenset[str]:
        """Return the names of the packs that the soak itself has taken away."""
        return frozenset(item.partition("/")[2] for item in self._namespaces[namespace].damaged)

    # ---- the rules of one head after another ----

    def _head(self, namespace: str, data: bytes) -> None:
        space = self._namespaces.setdefault(namespace, _Namespace())
        try:
            head = decode_head(data)
        except CorruptError as error:
            self._violated("a head that its readers refuse", namespace, str(error))
            return
        try:
            snapshot = self._snapshot(namespace, head, space)
        except _LostError as error:
            self._violated("a head that refers to what is not there", namespace, f"{_told(head)}: {error}")
            return
        before = space.last
        space.last = space.snapshots[snapshot.sequence] = snapshot
        now = self._now()
        for name, entry in snapshot.live.items():
            if (before is None or name not in before.live) and not snapshot.reason.startswith("rollback"):
                # A file may lie about for a while before it is pushed, and its own last use counts; a wrong clock's does not.
                used = min(max(entry.slot.mtime / 1e9, now - self._max_age / 2), now)
                space.vouched[name] = max(space.vouched.get(name, 0.0), used)
        if before is not None:
            self._transition(namespace, space, before, snapshot)

    def _snapshot(self, namespace: str, head: Head, space: _Namespace) -> Snapshot:
        live: dict[str, Entry] = {}
        for ref in head.state.segments:
            live |= {entry.name: entry for entry in self._segment(namespace, ref, space)}
        packs = {entry.pack for entry in live.values()}
        for pack in packs:
            self._present(namespace, f"packs/{pack.name}", pack.size, space)
        objects = {f"packs/{pack.name}" for pack in packs}
        for folder, own in (("sets", head.state.sets), ("notes", head.notes)):
            if own is not None:
                self._present(namespace, f"{folder}/{own.name}", own.size, space)
                objects.add(f"{folder}/{own.name}")
        for state in (head.state, *head.history):
            objects |= self._objects(namespace, state, space)
        return Snapshot(head.state.sequence, head.state.reason, self._now(), live, frozenset(objects))

    def _objects(self, namespace: str, state: NamespaceState, space: _Namespace) -> set[str]:
        objects = {f"index/{ref.object.name}" for ref in state.segments}
        latest: dict[str, Entry] = {}
        for ref in state.segments:
            latest |= {entry.name: entry for entry in self._segment(namespace, ref, space)}
        return objects | {f"packs/{entry.pack.name}" for entry in latest.values()}

    def _segment(self, namespace: str, ref: SegmentRef, space: _Namespace) -> tuple[Entry, ...]:
        name = f"index/{ref.object.name}"
        data = self._present(namespace, name, ref.object.size, space)
        if data is None:
            return ()
        key = f"{namespace}/{name}"
        if key not in self._rows:
            try:
                self._rows[key] = tuple(decode_segment(data, name))
            except CorruptError as error:
                raise _LostError(str(error)) from None
        return self._rows[key]

    def _present(self, namespace: str, name: str, size: int, space: _Namespace) -> bytes | None:
        data = self._get(f"ccache/{namespace}/{name}")
        if name in space.damaged:
            return None
        if data is None:
            raise _LostError(f"{name} is gone")
        if len(data) != size:
            raise _LostError(f"{name} has {len(data)} bytes and not {size}")
        return data

    def _transition(self, namespace: str, space: _Namespace, before: Snapshot, after: Snapshot) -> None:
        if after.sequence == before.sequence and after.live.keys() == before.live.keys():
            return  # the same state in another format
        if after.sequence != before.sequence + 1 and after.reason != "rebuild":
            self._violated("states are not numbered in a row", namespace, f"{before.sequence} -> {after.sequence}")
        reason = after.reason.split(" ")[0]
        if reason == "rollback":
            self._rolled_back(namespace, space, after)
            return
        gone = [name for name in before.live if name not in after.live and not _lies_in(before, name, space.damaged)]
        if reason == "prune":
            gone = [name for name in gone if self._now() - space.vouched.get(name, 0.0) < self._max_age]
        elif reason == "verify":
            gone = [name for name in gone if not self._bad(namespace, before.live[name])]
        if gone:
            ages = [round(self._now() - space.vouched.get(name, 0.0)) for name in gone[:_SAMPLE]]
            self._violated(
                f"a {reason} lost entries",
                namespace,
                f"state {before.sequence} -> {after.sequence}: {len(gone)} of {len(before.live)}: {_some(gone)}; ages {ages} s",
            )
        backwards = [
            name
            for name, entry in after.live.items()
            if name in before.live
            and _goes_back(before.live[name], entry)
            and not _lies_in(before, name, space.damaged)
        ]
        if backwards and reason != "rebuild":
            self._violated("a manifest went back", namespace, f"state {after.sequence}: {_some(backwards)}")

    def _rolled_back(self, namespace: str, space: _Namespace, after: Snapshot) -> None:
        target = space.snapshots.get(int(after.reason.rpartition(" ")[2]))
        if target is None:
            self._violated("a rollback to a state that never was", namespace, after.reason)
            return
        gone = [name for name in target.live if name not in after.live and not _lies_in(target, name, space.damaged)]
        if gone:
            self._violated("a rollback lost entries", namespace, f"{after.reason}: {_some(gone)}")

    def _bad(self, namespace: str, entry: Entry) -> bool:
        data = self._get(f"ccache/{namespace}/packs/{entry.pack.name}")
        return data is None or hashlib.sha256(data).hexdigest() != entry.pack.sha256

    def _violated(self, rule: str, where: str, seen: str) -> None:
        self.violations.append(Violation(rule, where, seen))


class _LostError(Exception):
    """An object that is referred to is gone or damaged."""


def _split(name: str) -> tuple[str, str, str]:
    kind, _, rest = name.partition("/")
    namespace, _, rest = rest.partition("/")
    return kind, namespace, rest


def _holds(entry: Entry, content: bytes) -> bool:
    """Say whether a listed entry is that content, or a manifest that may stand in its place."""
    return entry.slot.content == content or bool(entry.kind)


def _taken_meanwhile(space: _Namespace, name: str, report: PushReport) -> bool:
    """Say whether a prune or a rollback took the entry away while the push went on."""
    before = None
    for number in sorted(space.snapshots):
        snapshot = space.snapshots[number]
        taker = snapshot.reason.startswith(("prune", "rollback", "rebuild", "verify"))
        if before and name in before.live and name not in snapshot.live and taker and snapshot.at >= report.since:
            return True
        before = snapshot
    return False


def _goes_back(old: Entry, new: Entry) -> bool:
    if old.slot.content == new.slot.content:
        return False
    return not supersedes(new.kind, version_of(new), version_of(old))


def _lies_in(snapshot: Snapshot, name: str, damaged: Container[str]) -> bool:
    return f"packs/{snapshot.live[name].pack.name}" in damaged


def _told(head: Head) -> str:
    return f"state {head.state.sequence} ({head.state.reason})"


def _some(names: Sequence[str]) -> str:
    more = f" and {len(names) - _SAMPLE} more" if len(names) > _SAMPLE else ""
    return ", ".join(sorted(names)[:_SAMPLE]) + more


def summary(violations: Sequence[Violation]) -> str:
    """Return the violations by rule, with their numbers, as JSON."""
    counts: dict[str, int] = {}
    for one in violations:
        counts[one.rule] = counts.get(one.rule, 0) + 1
    return json.dumps(counts, sort_keys=True)
