"""What a namespace holds at one moment (the view), and how two writers' changes become one.

Results: the key is the identity, so the first one wins. Manifests: ccache rewrites them and stamps each rewrite with a
new creation time in seconds, so the later one wins, within a second the larger one (they only grow), and then the one
with the greater content id, so that all writers agree whatever their order. What the loser alone knew costs a
preprocessor-mode hit, not a compile.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, reduce
from itertools import chain, compress
from operator import or_

from imagetiers.ccache.format.entry import Kind
from imagetiers.ccache.format.head import Head, NamespaceState, SegmentRef, Use, decode_bits, encode_bits, fitting
from imagetiers.ccache.format.index import Entry, Rows, names_of
from imagetiers.ccache.format.pack import PackRef
from imagetiers.errors import CorruptError

__all__ = [
    "Live",
    "View",
    "carry_uses",
    "each_used",
    "fold",
    "make_use",
    "supersedes",
    "unite",
    "used_names",
    "version_of",
]

_DIGITS = bytes([ord("0"), ord("1"), *range(2, 256)])


class Live(Mapping[str, Entry]):
    """Every entry of some segments by name, a later segment's in the place of an earlier one's.

    Only names and row numbers are held; an Entry is made when it is asked for.
    """

    def __init__(self, rows: Sequence[Sequence[Entry]]) -> None:
        self._rows = rows
        self._starts: list[int] = []
        self._numbers: dict[str, int] = {}
        at = 0
        for some in rows:
            self._starts.append(at)
            self._numbers.update(zip(names_of(some), range(at, at + len(some)), strict=True))
            at += len(some)

    def __len__(self) -> int:
        return len(self._numbers)

    def __iter__(self) -> Iterator[str]:
        return iter(self._numbers)

    def __contains__(self, name: object) -> bool:
        return name in self._numbers

    def marks(self, names: Iterable[str]) -> Iterator[bytes | None]:
        """Yield for each name a manifest's content id, b"" for a result (its name says it all), None where there is none."""
        kinds, contents = b"".join(map(_kinds, self._rows)), b"".join(map(_contents, self._rows))
        number_of = self._numbers.get
        for name in names:
            number = number_of(name)
            if number is None:
                yield None
            else:
                yield contents[16 * number : 16 * number + 16] if kinds[number] else b""

    def __getitem__(self, name: str) -> Entry:
        return self.entry(self._numbers[name])

    def numbers(self) -> Iterable[tuple[str, int]]:
        """Return every name with its number, which is less than 2^32 and all that has to be held of an entry."""
        return self._numbers.items()

    def number(self, name: str) -> int | None:
        """Return an entry's number, None where there is no such entry."""
        return self._numbers.get(name)

    def entry(self, number: int) -> Entry:
        """Return the entry of a number."""
        segment = bisect_right(self._starts, number) - 1
        return self._rows[segment][number - self._starts[segment]]

    def pack(self, number: int) -> PackRef:
        """Return the pack of the entry of a number."""
        segment = bisect_right(self._starts, number) - 1
        rows, at = self._rows[segment], number - self._starts[segment]
        return rows.pack(at) if isinstance(rows, Rows) else rows[at].pack


@dataclass(frozen=True)
class View:
    """A head with its decoded segments; `rows` has one list for each segment of `head.state`, in its order.

    The list of a segment that could not be read is empty: what it lists counts as not there.
    """

    head: Head = field(default_factory=Head)
    rows: tuple[Sequence[Entry], ...] = ()

    @cached_property
    def live(self) -> Live:
        """Every entry by name; a later segment's replaces an earlier one's."""
        return Live(self.rows)

    def names(self, use: Use) -> set[str]:
        """Return the names of a use's entries. Raises CorruptError."""
        return used_names(self.head.state, self.rows, [use])

    def working_set(self, step: str | None) -> set[str] | None:
        """Return what the last good run of `step`, the good one before it and a later unfinished one used.

        None when no run is known. The one before, because changes are reverted and branches alternate: what only it
        used is still stored, but an entry that is not restored is a miss.

        Without a step, or for a step that never ran here, all steps' working sets.
        """
        chosen = self._uses(step)
        return used_names(self.head.state, self.rows, chosen) if chosen else None

    def arches(self, step: str | None) -> set[str]:
        """Return the GPU architectures for which the runs of `working_set` compiled, as TORCH_CUDA_ARCH_LIST names them."""
        return {arch for use in self._uses(step) if use.fingerprint for arch in use.fingerprint.arches}

    def _uses(self, step: str | None) -> list[Use]:
        uses = self.head.state.uses
        steps = {step} if step is not None and any(s == step for s, _ in uses) else {s for s, _ in uses}
        return [use for (s, _), use in uses.items() if s in steps]


def used_names(state: NamespaceState, rows: Sequence[Sequence[Entry]], uses: Iterable[Use]) -> set[str]:
    """Return the names of the entries that some of a state's uses have together. Raises CorruptError."""
    return set(each_used(state, rows, uses))


def each_used(state: NamespaceState, rows: Sequence[Sequence[Entry]], uses: Iterable[Use]) -> Iterator[str]:
    """Yield the names of the entries that some of a state's uses have together, an old row's again. Raises CorruptError."""
    if not fitting(state):
        raise CorruptError.of("", "there are too many working sets to hold them at once")
    total = state.entries
    number = reduce(or_, (decode_bits(use.bits, total) for use in uses), 0)
    return chain.from_iterable(_selected(state.segments, rows, number))


def _selected(segments: Sequence[SegmentRef], rows: Sequence[Sequence[Entry]], number: int) -> Iterator[Iterator[str]]:
    digits = f"{number:b}"[::-1]
    at = 0
    for segment, some in zip(segments, rows, strict=True):
        if len(some) == segment.entries:
            yield compress(names_of(some), map("1".__eq__, digits[at : at + segment.entries]))
        at += segment.entries


Version = tuple[int, int, bytes]
"""What orders a manifest's versions: creation time (Unix seconds), file size (manifests grow), content id."""


def version_of(entry: Entry) -> Version:
    """Return the version of an entry that an index lists."""
    return (entry.slot.created, entry.slot.size, entry.slot.content)


def supersedes(kind: Kind, version: Version, old: Version | None) -> bool:
    """Say whether an entry of this version should take the place of `old` (None = there is none)."""
    return old is None or (kind is Kind.MANIFEST and version[-1] != old[-1] and version > old)


def unite(own: Iterable[Entry], live: Mapping[str, Entry], gone: Collection[str] = ()) -> list[Entry]:
    """Return those of a writer's own entries that are still worth adding to what is there by now.

    An entry in one of the packs that are `gone` is not there.
    """

    def adds(entry: Entry) -> bool:
        old = live.get(entry.name)
        return old is None or old.pack.name in gone or supersedes(entry.kind, version_of(entry), version_of(old))

    return [entry for entry in own if adds(entry)]


def fold(view: View, own: Sequence[Entry]) -> tuple[tuple[SegmentRef, ...], tuple[Sequence[Entry], ...], list[Entry]]:
    """Decide which of the newest segments the new one takes in: those not more than twice as large as it has become.

    So a segment is always more than twice as large as all later ones together, their number stays logarithmic, and each
    entry is rewritten a few times at most. A segment that could not be read stays, and so do those before it. Returns
    the segments that stay, their rows, and the new segment's entries.
    """
    refs, rows = list(view.head.state.segments), list(view.rows)
    taken = {entry.name: entry for entry in own}
    while rows and len(rows[-1]) == refs[-1].entries and len(rows[-1]) <= 2 * len(taken):
        refs.pop()
        taken = {entry.name: entry for entry in rows.pop()} | taken
    return tuple(refs), tuple(rows), list(taken.values())


def make_use(
    segments: Sequence[SegmentRef],
    rows: Sequence[Sequence[Entry]],
    names: Iterable[str],
    at: float,
    like: Use | None = None,
) -> Use:
    """Make a use of `names` over these segments; the newest row of a name stands for it."""
    return _use(segments, rows, set(names), at, like)


def _use(
    segments: Sequence[SegmentRef], rows: Sequence[Sequence[Entry]], wanted: set[str], at: float, like: Use | None
) -> Use:
    """Make a use of what is wanted, which is taken out of that set: of a copy, two million names take 128 MB more."""
    parts: list[bytes] = []
    count = size = 0
    for segment, some in zip(reversed(segments), reversed(rows), strict=True):
        digits = bytes(segment.entries)
        if wanted and len(some) == segment.entries:
            digits = bytes(map(wanted.__contains__, names_of(some)))
            count += digits.count(1)
            size += sum(compress(_sizes(some), digits))
            wanted.difference_update(compress(names_of(some), digits))
        parts.append(digits[::-1].translate(_DIGITS))
    number = int(b"".join(parts) or b"0", 2)
    bits = encode_bits(number, sum(segment.entries for segment in segments))
    return Use(at, count, size, bits, like.fingerprint if like is not None else None)


def _kinds(rows: Sequence[Entry]) -> bytes:
    return rows.kinds if isinstance(rows, Rows) else bytes(entry.kind for entry in rows)


def _contents(rows: Sequence[Entry]) -> bytes:
    return rows.contents if isinstance(rows, Rows) else b"".join(entry.slot.content for entry in rows)


def _sizes(rows: Sequence[Entry]) -> Sequence[int]:
    return rows.sizes if isinstance(rows, Rows) else [entry.slot.size for entry in rows]


def carry_uses(
    view: View, segments: Sequence[SegmentRef], rows: Sequence[Sequence[Entry]]
) -> dict[tuple[str, str], Use]:
    """Rewrite a view's uses for other segments (a fold or a compaction changed them).

    Where only segments were appended, nothing changes, also where some could not be read.
    """
    old = view.head.state.segments
    if tuple(segments[: len(old)]) == old:
        return dict(view.head.state.uses)
    return {key: _use(segments, rows, view.names(use), use.at, use) for key, use in view.head.state.uses.items()}
