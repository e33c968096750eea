"""doit cache:gc: remove what has not been used for long, here and in the cache, in two phases (`planning.housekeeping`).

In the cache the marks are written first, under a precondition, so that of two runs at once one gives up; then records
are folded into their aggregates; then what was marked before is deleted, each in the generation that was marked. A run
that dies anywhere has at worst forgotten marks, and what it has not deleted is marked again by the next one.
"""

from __future__ import annotations

import contextlib
import secrets
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from itertools import groupby

from imagetiers.ccache.apart import Report, apart
from imagetiers.ccache.listing import draw
from imagetiers.config.model import Trust, branch_name
from imagetiers.errors import NotFoundError, PreconditionError, Problem, StoreError
from imagetiers.operations.gc_cache import CacheContents, Part, read_cache
from imagetiers.operations.gc_ccache import listed, plan_abandoned, remove_namespace
from imagetiers.operations.gc_local import local_items, needed_here, remove
from imagetiers.parallel import map_parallel
from imagetiers.planning.forecast import READ, Sample
from imagetiers.planning.housekeeping import Item, Limits, Mark, Sweep, decode_marks, encode_marks, plan_sweep
from imagetiers.planning.keys import SHORT
from imagetiers.planning.plan import Plan
from imagetiers.report.swept import swept_lines
from imagetiers.session import Session
from imagetiers.state.aggregates import AGGREGATE, Aggregate, decode_aggregate, encode_aggregate, fold
from imagetiers.stores.port import Store

__all__ = ["GcOptions", "collect_garbage", "sweep_part"]

DAY = 86_400.0
_HERE = ("wheels here", "ccache here", "marks here", "branches here")
_THREADS = 8
_BRANCHES_MAX = 1_000  # of others: whoever may write one may write a million of them
_LEFT_SECONDS = 7 * DAY  # longer than any compile that runs on in its container after its doit was killed


@dataclass(frozen=True, slots=True)
class GcOptions:
    """What `cache:gc` was asked for: limits by age (s), count of each tier's wheels and archives, bytes in all of the cache.

    The `keep` newest builds of each tier and variant stay. `grace` seconds pass between marking a thing and removing it.
    """

    max_age: float = 90 * DAY
    max_count: int | None = None
    max_bytes: int | None = None
    keep: int = 3
    grace: float = DAY
    dry_run: bool = False

    @property
    def limits(self) -> Mapping[str, Limits]:
        """The limits by kind of thing. Records that a forecast reads stay; those before them become sums."""
        aged = Limits(self.max_age)
        return {
            **dict.fromkeys(("wheels", "made"), Limits(self.max_age, self.max_count)),
            "records": Limits(max_count=READ, keep=READ),
            **dict.fromkeys(("inputs", "keys", "verdicts", "published", "objects", "folders", *_HERE), aged),
            "logs here": Limits(self.max_age, keep=self.keep),
            "left over": Limits(_LEFT_SECONDS),
        }


def collect_garbage(
    session: Session,
    plans: Iterable[Plan],
    options: GcOptions,
    *,
    alone: Callable[[str, Callable[[], Report]], Report] = apart,
) -> None:
    """Mark and remove, here and in the cache; `plans` are the pipeline's in all variants: what they need stays.

    Prints what is kept, marked and removed. A trusted build does so for untrusted branches, too, each of them `alone`: what
    they have written is read in a process of its own. Raises StoreError where the cache could not be read or written, OSError.
    """
    known = list(plans)
    pipelines = frozenset(plan.pipeline.name for plan in known)
    keys = frozenset(key for plan in known for tier in plan.tiers.values() for key in _keys(plan, tier.name))
    problems: list[Problem] = []
    with session.services.locks.hold("gc", "cache:gc"):
        held = session.services.locks.held()
        _here(session, options, keys)
        live = {key[:SHORT] for key in keys} | {name.partition("-")[2][:SHORT] for name in held if "-" in name}
        part = Part(session.services.store, session.trust, session.services.registry)
        for where, work in _parts(part, frozenset(live), options, problems, pipelines):
            try:
                report = alone(where, work) if where else work()
            except StoreError as error:
                problems += error.problems
                continue
            session.services.console.line(report.text)
            hint = "nothing that it might name was marked or removed: run it again"
            problems += [Problem(where or session.services.store.url, doubt, hint) for doubt in report.bad]
    StoreError.raise_if(problems)


def _keys(plan: Plan, name: str) -> tuple[str, ...]:
    tier = plan.tiers[name]
    return (tier.key, tier.compile.key) if tier.compile is not None else (tier.key,)


# ---- the cache ----


def _parts(
    own: Part, live: frozenset[str], options: GcOptions, problems: list[Problem], pipelines: frozenset[str]
) -> Iterator[tuple[str, Callable[[], Report]]]:
    """Yield what there is to do: this build's own part, without a name, and in a trusted build that of each branch."""
    yield "", partial(sweep_part, own, live, options, pipelines if own.trust.trusted else frozenset())
    if not own.trust.trusted:
        return
    foreign = 0

    def branches() -> Iterator[str]:
        nonlocal foreign
        for name, blobs in groupby(own.store.list("untrusted/"), key=lambda blob: _branch(blob.name)):
            if name:
                yield name
            else:
                foreign += sum(1 for _ in blobs)

    try:
        drawn, count = draw(branches(), _BRANCHES_MAX)
    except StoreError as error:
        problems += error.problems
        return
    if count > len(drawn):
        what = f"untrusted/: {count:,} branches: {len(drawn):,} of them, drawn by lot, have their turn now"
        yield "", lambda: Report(what)
    for name in drawn:
        trust = Trust(trusted=False, branch=name)
        yield trust.prefix.rstrip("/"), partial(sweep_part, Part(own.store, trust, None), live, options)
    if foreign:
        yield "", lambda: Report(f"untrusted/: {foreign} objects are none of imagetiers': left alone")


def _branch(name: str) -> str:
    """Return the branch whose builds have written an object of that name; nothing where none could."""
    _, branch, rest = name.split("/", 2) if name.count("/") > 1 else ("", "", "")
    return branch if rest and branch and branch_name(branch) == branch else ""


def sweep_part(part: Part, live: frozenset[str], options: GcOptions, pipelines: frozenset[str] = frozenset()) -> Report:
    """Mark and remove what builds of one trust level or branch have in the cache. Raises StoreError.

    With `pipelines` also the ccache of other ones that nobody has written for long.
    """
    lines: list[str] = []
    marks, generation = _marks(part, lines)
    now = part.store.now()  # after a first request: a bucket tells its time with an answer
    old = now - options.max_age if options.max_bytes is None else now  # a limit by bytes may take what is young
    reading = read_cache(part, live, keep=options.keep, old=old)
    sweep = plan_sweep(reading.items, reading.needed, marks, options.limits, now, options.grace, options.max_bytes)
    abandoned = Sweep()
    if pipelines:
        abandoned = plan_abandoned(part.store, pipelines, marks, options.max_age, now, options.grace)
    after = {**sweep.marks, **abandoned.marks}
    if not options.dry_run:
        if marks != after:
            _write_marks(part, after, generation)
        _delete(part.store, _fold(part.store, reading, sweep, lines))
        kept = [item for item in abandoned.delete if not remove_namespace(part.store, item, now)]
        lines += [f"  {item.name[:-1]} stays, for somebody has written it meanwhile" for item in kept]
    sweep = _both(sweep, abandoned)
    lines += swept_lines(
        f"cache {part.store.url}{part.trust.prefix and '/'}{part.trust.prefix[:-1]}",
        sweep,
        options.grace,
        dry_run=options.dry_run,
    )
    lines += listed(abandoned, now, dry_run=options.dry_run)
    if reading.foreign:
        lines.append(f"  {reading.foreign} objects are none of imagetiers': left alone")
    return Report("\n".join(lines), tuple(reading.doubts))


def _both(one: Sweep, other: Sweep) -> Sweep:
    return Sweep(
        one.keep + other.keep,
        one.marked + other.marked,
        one.delete + other.delete,
        {**one.marks, **other.marks},
        one.unmarked + other.unmarked,
    )


def _marks_name(part: Part) -> str:
    return f"{part.trust.prefix}gc/marks.json"


def _marks(part: Part, lines: list[str]) -> tuple[dict[str, Mark], int]:
    """Read the marks; garbled ones are none, and so everything waits for another grace period. Raises StoreError."""
    try:
        data, generation = part.store.read(_marks_name(part))
    except NotFoundError:
        return {}, 0
    try:
        return decode_marks(data), generation
    except ValueError:
        lines.append(f"{_marks_name(part)} is garbled: marking begins anew")
        return {}, generation


def _write_marks(part: Part, marks: Mapping[str, Mark], generation: int) -> None:
    name = _marks_name(part)
    try:
        part.store.write(name, encode_marks(marks), if_generation=generation)
    except PreconditionError:
        raise StoreError(
            Problem(name, "another cache:gc is at work; nothing was removed", "run it again when that one is done")
        ) from None


def _fold(store: Store, reading: CacheContents, sweep: Sweep, lines: list[str]) -> tuple[Item, ...]:
    """Take the records that go into the aggregates; return what may be deleted: no record that could not be kept so."""
    records: dict[str, list[Item]] = defaultdict(list)
    for item in sweep.delete:
        if item.kind == "records":
            records[item.name.rpartition("/")[0]].append(item)
    kept: set[str] = set()
    for folder, some in records.items():
        try:
            _fold_folder(store, folder, {item.name: reading.samples.get(item.name) for item in some})
        except StoreError as error:
            lines.append(f"{folder}: its records stay, for they could not be added up: {error}")
            kept |= {item.name for item in some}
    return tuple(item for item in sweep.delete if item.name not in kept)


def _fold_folder(store: Store, folder: str, records: Mapping[str, Sample | None]) -> None:
    name = f"{folder}/{AGGREGATE}"
    try:
        data, generation = store.read(name)
        before = decode_aggregate(data)
    except NotFoundError:
        before, generation = Aggregate(), 0
    except ValueError:
        raise StoreError(Problem(name, "is garbled", "remove it: what it added up is lost")) from None
    after = fold(before, ((record.rpartition("/")[2], sample) for record, sample in records.items()))
    if after != before:
        store.write(name, encode_aggregate(after), if_generation=generation)


def _delete(store: Store, items: Iterable[Item]) -> None:
    """Delete what is still as it was marked; what was written anew meanwhile stays."""

    def one(item: Item) -> None:
        with contextlib.suppress(PreconditionError):
            store.delete(item.name, if_generation=item.generation)

    map_parallel(one, items, _THREADS)


# ---- this checkout ----


def _here(session: Session, options: GcOptions, keys: frozenset[str]) -> None:
    now = session.services.now()
    items = local_items(session.layout)
    path = session.layout.state / "gc.json"
    try:
        marks = decode_marks(path.read_bytes())
    except (FileNotFoundError, ValueError):
        marks = {}
    needed = needed_here(session.layout, items, keys, session.services.locks.held)
    sweep = plan_sweep(items, needed, marks, options.limits, now, options.grace)
    if not options.dry_run:
        if marks != sweep.marks:
            path.parent.mkdir(parents=True, exist_ok=True)
            temporary = path.with_name(f".gc.{secrets.token_hex(4)}")
            temporary.write_bytes(encode_marks(sweep.marks))
            temporary.replace(path)
        for item in sweep.delete:
            remove(session.layout, item)
    session.services.console.line(
        "\n".join(swept_lines(str(session.layout.work), sweep, options.grace, dry_run=options.dry_run))
    )
