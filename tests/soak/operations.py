"""What a soak does, as values, and how one operation is done: by a thread of a simulation or a process of its own."""

from __future__ import annotations

import json
import os
import random
import shutil
import traceback
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

from imagetiers.adapters.locks import FileLocks
from imagetiers.ccache.local import scan
from imagetiers.ccache.prune import GRACE_MIN, PruneOptions, prune
from imagetiers.ccache.pull import pull
from imagetiers.ccache.push import PushOutcome, push
from imagetiers.ccache.rollback import rollback
from imagetiers.ccache.verify import verify
from imagetiers.config.model import Trust
from imagetiers.errors import ImagetiersError
from imagetiers.operations.cache_gc import GcOptions, collect_garbage
from imagetiers.stores.port import Store
from tests.ccache.downgrade import write_as_format_1
from tests.registry.harness import NoCancellation
from tests.soak import content, wheels_made

TRUSTED = "trusted.main.soak.ccache-4.14"
UNTRUSTED = "untrusted.pr-7.soak.ccache-4.14"
MAX_AGE = 2 * 86_400.0
"""Seconds: what no prune of a soak drops when a push has reported it later than that before."""

WHEELS = 12
"""Compile keys whose wheels are published."""

WEIGHTS: Mapping[str, int] = {
    "compile": 14,
    "push": 24,
    "checkpoint": 8,
    "partial": 4,
    "fresh push": 5,
    "pull": 10,
    "fresh pull": 10,
    "evict": 3,
    "prune": 7,
    "verify": 2,
    "drop bad": 2,
    "rollback": 2,
    "publish": 4,
    "restore": 6,
    "gc": 4,
}


@dataclass(frozen=True, slots=True)
class Operation:
    """One thing that one machine does; `seed` decides what is left open, `at` is the store's time at its start."""

    kind: str
    machine: int
    seed: int
    namespace: str = TRUSTED
    threads: int = 2
    number: int = 0
    at: float = 0.0


@dataclass(frozen=True, slots=True)
class Report:
    """What came of an operation: `contents` (hex content ids by name) is what a push has vouched for, up to `sequence`.

    `wrong` are bytes that should never have been written, `crash` is the traceback of what no caller can foresee.
    """

    outcome: str = ""
    sequence: int = 0
    contents: Mapping[str, str] = field(default_factory=dict)
    pushed: tuple[str, ...] = ()
    wrong: tuple[str, ...] = ()
    error: str = ""
    crash: str = ""

    def json(self) -> str:
        return json.dumps(asdict(self))


def draw_operation(draw: random.Random, machines: int, *, threads: int) -> Operation:
    """Draw an operation by `WEIGHTS`. Machines with odd numbers build pull requests, when they do not housekeep."""
    kind = draw.choices(list(WEIGHTS), list(WEIGHTS.values()))[0]
    machine = draw.randrange(machines)
    namespace = UNTRUSTED if machine % 2 and kind != "rollback" else TRUSTED
    if kind in {"prune", "verify", "drop bad"} and draw.random() < 0.7:
        namespace = TRUSTED
    return Operation(kind, machine, draw.getrandbits(32), namespace, threads)


def perform(op: Operation, store: Store, directory: Path, now: float) -> Report:
    """Do it. Every failure that a person may meet is part of the report; `now` is the machine's own time (Unix s)."""
    try:
        return _VERBS[op.kind](op, store, directory, now)
    except (ImagetiersError, OSError) as error:
        return Report("failed", error=f"{type(error).__name__}: {error}", wrong=_wrong(op, directory))
    except Exception:  # noqa: BLE001  what it is, the conductor tells
        return Report("crashed", crash=traceback.format_exc())


def _compile(op: Operation, _store: Store, directory: Path, now: float) -> Report:
    draw = random.Random(op.seed)
    for _ in range(draw.randint(1, 8)):
        number = draw.randrange(60) if draw.random() < 0.5 else op.number % 4000 * 7 + draw.randrange(7)
        made = content.make(number, op.number, now)
        _put(directory, made, now)
    return Report("compiled")


def _put(directory: Path, made: content.Made, now: float) -> None:
    """Write an entry as ccache does: all of it or nothing."""
    path = directory.joinpath(*made.name[:2], made.name[2:])
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(path.name + ".tmp.soak")
    try:
        temporary.write_bytes(made.data())
        os.utime(temporary, ns=(int(now * 1e9),) * 2)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def _evict(op: Operation, _store: Store, directory: Path, _now: float) -> Report:
    draw = random.Random(op.seed)
    for file in sorted(scan(directory).values(), key=lambda f: f.path) if directory.is_dir() else ():
        if draw.random() < 0.3:
            Path(file.path).unlink()
    return Report("evicted")


def _push(op: Operation, store: Store, directory: Path, now: float) -> Report:
    if op.kind == "fresh push":
        shutil.rmtree(directory, ignore_errors=True)
        _compile(op, store, directory, now)
    directory.mkdir(parents=True, exist_ok=True)
    _use(directory, now)
    local = contents_of(directory)
    parents = () if op.namespace == TRUSTED else (TRUSTED,)
    result = push(
        store,
        op.namespace,
        directory,
        step=f"step{op.machine}",
        since=int(now * 1e9) if op.seed % 3 else None,
        good=op.kind != "partial",
        checkpoint=op.kind == "checkpoint",
        parents=parents,
        threads=op.threads,
    )
    vouched: Mapping[str, str] = {}
    if result.outcome in (PushOutcome.PUSHED, PushOutcome.NOTHING_NEW):
        skipped = {line.partition(":")[0] for line in result.skipped}
        names = result.pushed if parents else local.keys() - skipped
        vouched = {name: local[name] for name in names}
    return Report(str(result.outcome), result.sequence, vouched, tuple(sorted(result.pushed)))


def _use(directory: Path, now: float) -> None:
    """Let the machine's build ask for what it has not asked for in the last hours: ccache then bumps its mtime."""
    for file in scan(directory).values():
        if file.mtime < (now - 6 * 3600) * 1e9:
            os.utime(file.path, ns=(int(now * 1e9),) * 2)


def _pull(op: Operation, store: Store, directory: Path, _now: float) -> Report:
    if op.kind == "fresh pull":
        shutil.rmtree(directory, ignore_errors=True)
    chain = [op.namespace] if op.namespace == TRUSTED else [op.namespace, TRUSTED]
    everything = op.seed % 3 == 0
    result = pull(store, chain, directory, step=f"step{op.machine}", everything=everything, threads=op.threads)
    outcome = "pulled" if not result.quarantined and not result.stopped else "pulled in part"
    return Report(outcome, max(result.sequences.values()), wrong=_wrong(op, directory))


def _prune(op: Operation, store: Store, _directory: Path, _now: float) -> Report:
    draw = random.Random(op.seed)
    age = draw.choice([None, MAX_AGE, 2 * MAX_AGE])
    options = PruneOptions(max_age=age, live_share=draw.choice([0.5, 0.9]), keep_history=draw.choice([0, 3]))
    result = prune(store, op.namespace, replace_grace(options), dry_run=draw.random() < 0.1)
    return Report("pruned", result.sequence)


def replace_grace(options: PruneOptions) -> PruneOptions:
    """Return the options with the shortest grace period that there may be."""
    return PruneOptions(options.max_age, options.max_bytes, options.live_share, options.keep_history, GRACE_MIN + 60)


def _verify(op: Operation, store: Store, _directory: Path, _now: float) -> Report:
    result = verify(store, op.namespace, drop_bad=op.kind == "drop bad")
    return Report("intact" if result.ok else "bad entries")


def _rollback(op: Operation, store: Store, _directory: Path, _now: float) -> Report:
    result = rollback(store, op.namespace)
    return Report("rolled back", result.sequence)


def _check(op: Operation, store: Store, directory: Path, _now: float) -> Report:
    """Restore everything into an empty directory and verify the namespace; `sequence` is the number of entries."""
    shutil.rmtree(directory, ignore_errors=True)
    result = pull(store, [op.namespace], directory, everything=True, threads=op.threads, counters=False)
    bad = [*result.quarantined, *wrong_entries(directory), *verify(store, op.namespace).bad]
    if result.stopped:
        bad.append(result.stopped)
    return Report("bad entries" if bad else "intact", result.entries, wrong=tuple(bad))


def _publish(op: Operation, store: Store, directory: Path, now: float) -> Report:
    number = op.seed % WHEELS
    session, console = wheels_made.session_of(store, wheels_made.layout_of(directory), _trust(op), lambda: now)
    wheels_made.publish(session, number)
    unkept = all("record" in line for line in console.lines)  # that a record was not kept costs a forecast, no wheels
    return Report("published" if unkept else "failed", number, error=" ".join(console.lines))


def _restore(op: Operation, store: Store, directory: Path, now: float) -> Report:
    session, console = wheels_made.session_of(store, wheels_made.layout_of(directory), _trust(op), lambda: now)
    came, wrong = wheels_made.restore(session, op.seed % WHEELS)
    outcome = "restored" if came else "failed" if console.lines else "no wheels"
    return Report(outcome, op.seed % WHEELS, wrong=wrong, error=" ".join(console.lines))


def _gc(op: Operation, store: Store, directory: Path, now: float) -> Report:
    layout = wheels_made.layout_of(directory)
    session, _ = wheels_made.session_of(store, layout, _trust(op), lambda: now)
    locks = FileLocks(layout.locks, session.services.console, NoCancellation())
    session = replace(session, services=replace(session.services, locks=locks))
    options = GcOptions(MAX_AGE, keep=op.seed % 2, grace=GRACE_MIN + 60, dry_run=op.seed % 10 == 0)
    # In this process, whose clock and store are the soak's: a process of its own would have neither.
    collect_garbage(session, (), options, alone=lambda _, work: work())
    return Report("swept")


def _trust(op: Operation) -> Trust:
    return Trust() if op.namespace == TRUSTED else Trust(trusted=False, branch="pr-7")


def _downgrade(op: Operation, store: Store, _directory: Path, _now: float) -> Report:
    """Write the head as a worker of format version 1 would have; nobody else is at work."""
    return Report("of format 1", write_as_format_1(store, op.namespace))


_VERBS = {
    "downgrade": _downgrade,
    "publish": _publish,
    "restore": _restore,
    "gc": _gc,
    "check": _check,
    "compile": _compile,
    "evict": _evict,
    "push": _push,
    "checkpoint": _push,
    "partial": _push,
    "fresh push": _push,
    "pull": _pull,
    "fresh pull": _pull,
    "prune": _prune,
    "verify": _verify,
    "drop bad": _verify,
    "rollback": _rollback,
}


def contents_of(directory: Path) -> dict[str, str]:
    """Return the content ids (hex) of a directory's entries by name."""
    found = {}
    for name, file in scan(directory).items():
        with Path(file.path).open("rb") as opened:
            opened.seek(max(0, file.size - 16))
            found[name] = opened.read().hex()
    return found


def wrong_entries(directory: Path) -> tuple[str, ...]:
    """Return what is wrong with the entries of a directory: nothing, if every reader did as it should."""
    if not directory.is_dir():
        return ()
    files = scan(directory).items()
    return tuple(text for name, file in files if (text := content.wrong(name, Path(file.path).read_bytes())))


def _wrong(op: Operation, directory: Path) -> tuple[str, ...]:
    return wrong_entries(directory) if "pull" in op.kind else ()
