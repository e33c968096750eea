"""What is shown of a tier: each pane is what a command would print, of that tier alone."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path

from rich.table import Table
from rich.text import Text

from imagetiers.errors import ImagetiersError
from imagetiers.judging.outcome import FailedVerdict
from imagetiers.operations.explain import show_explanations
from imagetiers.operations.scan import show_scans
from imagetiers.operations.size import show_size
from imagetiers.operations.status import Status, device_tables
from imagetiers.planning.keys import short
from imagetiers.planning.plan import TierPlan
from imagetiers.planning.status import TierStatus
from imagetiers.report.amounts import age_text, size_text
from imagetiers.report.status import drift_lines
from imagetiers.services import Bar
from imagetiers.session import Session
from imagetiers.state.records import own_records
from imagetiers.visible import visible

__all__ = ["PANES", "Shown", "newest_log", "pane"]

_RECORDS = 20


@dataclass(frozen=True, slots=True)
class Shown:
    """The tier that is looked at, in a session, with what was found out of all tiers."""

    session: Session
    tier: TierPlan
    status: Status

    @property
    def of_tier(self) -> TierStatus:
        """What was found out of it."""
        return next(each for each in self.status.tiers if each.tier.name == self.tier.name)


@dataclass
class _Kept:
    """A console that keeps what it is told, to show it elsewhere."""

    things: list[object] = field(default_factory=list)

    def line(self, text: str) -> None:
        self.things.append(Text(visible(text)))

    def write(self, text: str, *, error: bool = False) -> None:
        del error
        self.line(text.rstrip("\n"))

    def print(self, renderable: object) -> None:
        self.things.append(renderable)

    def live(self) -> AbstractContextManager[Callable[[object], None]]:
        return nullcontext(self.print)

    def progress(self, title: str, log: Path | None = None) -> AbstractContextManager[Bar]:
        del title, log
        return nullcontext(_NoBar())


class _NoBar:
    def update(self, done: int, total: int, note: str = "") -> None:
        del done, total, note


def _asked(work: Callable[[Session], None], session: Session) -> list[object]:
    """Return what an operation prints, and what it says is wrong."""
    kept = _Kept()
    try:
        work(replace(session, services=replace(session.services, console=kept)))
    except ImagetiersError as error:
        kept.things.append(Text(visible(str(error)), style="yellow"))
    return kept.things


def _table(*columns: str) -> Table:
    table = Table(box=None, pad_edge=False, header_style="dim")
    for column in columns:
        table.add_column(column, overflow="fold")
    return table


def _state(shown: Shown) -> Iterator[object]:
    status, tier = shown.of_tier, shown.tier
    table = Table(box=None, pad_edge=False, show_header=False)
    table.add_column(style="dim", no_wrap=True)
    table.add_column(overflow="fold")
    image, failed = status.image, shown.status.failures.get(tier.name)
    rows = {
        "state": status.presence.value,
        "why": "\n".join(status.why),
        "would run": " ".join(status.runs) or "nothing",
        "key": tier.key,
        "reference": tier.ref,
        "tags": "\n".join(tier.tags),
        "digest": status.digest,
        "image": "" if image is None else f"{image.id}, {size_text(image.size)}",
        "base drift": "\n".join(
            drift_lines({tier.name: shown.status.pins.get(tier.name, ())}, shown.session.services.now())
        ),
        "verified": "no checks" if tier.verify.empty else "yes" if status.verified else "no",
        "last time": "" if failed is None else str(failed),
        "wheels": "" if tier.compile is None else f"{short(tier.compile.key)} {shown.status.warmth.get(tier.name, '')}",
    }
    for name, value in rows.items():
        if value:
            table.add_row(name, Text(visible(value)))
    yield table


def _inputs(shown: Shown) -> Iterator[object]:
    table = _table("file", "size", "of")
    step = shown.tier.compile
    for what, files in (("compile", step.files if step is not None else ()), ("image", shown.tier.files)):
        for file in files:
            table.add_row(Text(visible(file.path)), size_text(file.size), what)
    yield table


def _why(shown: Shown) -> Iterator[object]:
    yield from _asked(lambda session: show_explanations(session, [shown.tier.name], as_json=False), shown.session)


def _layers(shown: Shown) -> Iterator[object]:
    yield from _asked(lambda session: show_size(session, shown.tier), shown.session)


def _checks(shown: Shown) -> Iterator[object]:
    verdict, failed = shown.status.verdicts.get(shown.tier.name), shown.status.failures.get(shown.tier.name)
    if failed is not None:
        yield from _failed(failed, shown.session.services.now())
        return
    if verdict is None:
        yield Text("it has not passed its checks, as far as the cache knows", style="yellow")
        return
    table = _table("asked by", "check that has passed")
    for tier, check in verdict.checks:
        table.add_row(Text(visible(tier)), Text(visible(check)))
    yield table


def _failed(failed: FailedVerdict, now: float) -> Iterator[object]:
    yield Text(visible(f"its checks failed {age_text(now - failed.at)} ago{failed.whose}"), style="red")
    table = _table("asked by", "check that has failed", "what was wrong")
    for each in failed.checks:
        table.add_row(*(Text(visible(text)) for text in (each.tier, each.check, each.line)))
    yield table
    if failed.more:
        yield Text(f"and {failed.more:,} more", style="dim")


def _scan(shown: Shown) -> Iterator[object]:
    yield from _asked(lambda session: show_scans(session, [shown.tier]), shown.session)


def _gpus(shown: Shown) -> Iterator[object]:
    tables: list[object] = [*device_tables(shown.session, shown.status, shown.tier.name)]
    yield from tables or [Text("its image has no device code that is known", style="dim")]


def _records(shown: Shown) -> Iterator[object]:
    now = shown.session.services.now()
    table = _table("built", "what", "key", "took", "hits", "size")
    for kind in ("compile", "image"):
        for record in own_records(shown.session, shown.tier.name, kind, most=_RECORDS):
            calls = record.hits + record.misses
            table.add_row(
                f"{age_text(now - record.began)} ago",
                Text(visible(" ".join(filter(None, (kind, record.change.removeprefix(kind).strip()))))),
                short(record.key),
                age_text(record.seconds),
                f"{100 * record.hits / calls:.0f} %" if calls else "",
                size_text(record.size) if record.size else "",
            )
    yield table if table.row_count else Text("no build of it is on record", style="dim")


PANES: Mapping[str, Callable[[Shown], Iterator[object]]] = {
    "state": _state,
    "inputs": _inputs,
    "why": _why,
    "layers": _layers,
    "checks": _checks,
    "scan": _scan,
    "gpus": _gpus,
    "records": _records,
}
"""The panes that are asked for once, by name; the log is followed."""


def pane(name: str, shown: Shown) -> list[object]:
    """Return what a pane shows. What cannot be told is said there, and never raised."""
    try:
        return list(PANES[name](shown))
    except (ImagetiersError, OSError) as error:
        return [Text(visible(str(error)), style="red")]


def newest_log(session: Session, tier: str) -> Path | None:
    """Return the log of the tier that was written last, None where there is none."""
    folder = session.layout.logs(tier)
    try:
        return max(folder.iterdir(), key=lambda path: path.stat().st_mtime, default=None)
    except OSError:
        return None
