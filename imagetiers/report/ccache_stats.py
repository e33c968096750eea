"""What a compiler cache holds and how warm it kept compiles, drawn for a terminal. Pure.

Sizes in bytes, times in Unix seconds.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from imagetiers.planning.hit_rates import ClassHits
from imagetiers.report.amounts import age_text, size_text

__all__ = ["CompileHistory", "NamespaceView", "Writer", "history_picture", "namespace_picture", "writers_table"]

_BAR, _SHORT_BAR = 32, 12  # characters
_TREND = 30  # values of a trend, the newest ones
_RISING = "▁▂▃▄▅▆▇█"
_LIVE, _DEAD, _OTHER = "green", "yellow", "bright_black"
_SAVED, _COMPILED = "green", "red"
_SHADES = {_LIVE: "█", _DEAD: "▓", _OTHER: "░", _COMPILED: "░"}  # told apart where there are no colours, too


@dataclass(frozen=True, slots=True)
class NamespaceView:
    """A ccache namespace: what is live, dead and left over, what a prune would delete now, and the last runs' working sets.

    `files`: bytes of the live entries as files. `runs` are (step, outcome, when, entries, bytes as files), the newest first;
    `states` those that a rollback can go back to, the oldest first: (number, when, reason, entries listed); `lost` is what
    of the index cannot be read.
    """

    name: str
    sequence: int
    reason: str
    written: float
    results: int
    manifests: int
    files: int
    live: int
    dead: int
    other: int
    packs: int
    retired: int
    freed: int
    runs: tuple[tuple[str, str, float, int, int], ...] = ()
    states: tuple[tuple[int, float, str, int], ...] = ()
    lost: tuple[str, ...] = ()

    @property
    def entries(self) -> int:
        """How many live entries there are."""
        return self.results + self.manifests

    @property
    def stored(self) -> int:
        """All bytes."""
        return self.live + self.dead + self.other


@dataclass(frozen=True, slots=True)
class CompileHistory:
    """The compiles of a tier, as their records tell them, the oldest first: when, the hit rate, the cache's bytes after it.

    `classes` are those of the newest one, which began at `began`.
    """

    tier: str
    began: float
    classes: tuple[ClassHits, ...]
    rates: tuple[tuple[float, float], ...] = ()
    sizes: tuple[tuple[float, int], ...] = ()


@dataclass(frozen=True, slots=True)
class Writer:
    """Who has written to the cache: trust and branch, worker, how many compiles, bytes pushed, when the last began."""

    trust: str
    worker: str
    compiles: int
    pushed: int
    last: float


def namespace_picture(space: NamespaceView, now: float) -> RenderableType:
    """Draw what a namespace holds."""
    return Group(
        Text(space.name, style="bold"),
        f"  state {space.sequence} ({space.reason or 'empty'}), {age_text(now - space.written)} old: "
        f"{space.results:,} results, {space.manifests:,} manifests; {size_text(space.files)} as files",
        *_holdings(space),
        *_growth("entries", [(when, count) for _, when, _, count in space.states], now, "{:,}".format),
        *([_working_sets(space, now)] if space.runs else []),
        *(
            f"  can go back to state {number} ({reason}), {age_text(now - when)} old"
            for number, when, reason, _ in space.states[:-1]
        ),
        *(f"  lost: {lost}" for lost in space.lost),
    )


def _holdings(space: NamespaceView) -> Iterable[RenderableType]:
    parts = (
        (space.live, _LIVE, f"live, in {space.packs:,} pack{'' if space.packs == 1 else 's'}"),
        (space.dead, _DEAD, "dead, in packs that are still needed"),
        (space.other, _OTHER, f"of earlier states, or left over; {space.retired:,} objects are on their way out"),
    )
    if not space.stored:
        return
    yield Text("  ") + _stacked([(size, style) for size, style, _ in parts])
    for size, style, says in parts:
        if size:
            yield Text.assemble("  ", (_SHADES[style], style), f" {size_text(size)} {says}")
    yield f"  a prune would free {size_text(space.freed)} now" if space.freed else "  a prune would free nothing now"


def _working_sets(space: NamespaceView, now: float) -> RenderableType:
    table = _table("step", "run", "when", "entries", "as files", "of all", "")
    for step, outcome, when, entries, size in space.runs:
        share = size / space.files if space.files else 0.0
        bar = Text("█" * round(share * _SHORT_BAR), style=_LIVE)
        which = "earlier good" if outcome == "before" else outcome
        ago = f"{age_text(now - when)} ago"
        table.add_row(step, which, ago, f"{entries:,}", size_text(size), f"{100 * share:.0f} %", bar)
    return _indented(table)


def history_picture(history: CompileHistory, now: float) -> RenderableType:
    """Draw what hits have saved in a tier's last compile, by class, and how that and the cache's size went before."""
    table = _table("class", "calls", "hits", "saved", "compiled", "")
    most = max((one.saved + one.compiled for one in history.classes), default=0.0)
    for one in history.classes:
        saved, compiled = ((value / most if most else 0.0) for value in (one.saved, one.compiled))
        bar = _stacked([(saved, _SAVED), (compiled, _COMPILED)], whole=1.0, length=_SHORT_BAR)
        calls = f"{one.hits + one.misses:,}"
        table.add_row(one.name, calls, f"{one.hits:,}", age_text(one.saved), age_text(one.compiled), bar)
    return Group(
        f"compile:{history.tier}, {age_text(now - history.began)} ago: seconds saved by hits, and compiled",
        _indented(table),
        *_growth("seconds saved", history.rates, now, lambda rate: f"{100 * rate:.0f} %", whole=1.0),
        *_growth("bytes", history.sizes, now, lambda size: size_text(int(size))),
    )


def writers_table(writers: Sequence[Writer], now: float) -> RenderableType:
    """Return who has written to the cache, who wrote most first."""
    table = _table("written by", "on", "compiles", "pushed", "last")
    for one in sorted(writers, key=lambda writer: (-writer.pushed, -writer.last)):
        ago = f"{age_text(now - one.last)} ago"
        table.add_row(one.trust, one.worker or "unknown", f"{one.compiles:,}", size_text(one.pushed), ago)
    return table


def _growth(
    what: str,
    points: Sequence[tuple[float, float]],
    now: float,
    says: Callable[[float], str],
    *,
    whole: float | None = None,
) -> Iterable[Text]:
    """Yield a line that draws how something went, where there is more than one moment of it."""
    shown = points[-_TREND:]
    if len(shown) < 2:  # noqa: PLR2004  one moment is no course
        return
    most = whole or max(value for _, value in shown)
    steps = [_RISING[min(len(_RISING) - 1, int(value / most * len(_RISING)))] if most else " " for _, value in shown]
    (began, first), (_, last) = shown[0], shown[-1]
    course = f"  {what}: {says(first)} ({age_text(now - began)} ago) "
    yield Text.assemble(course, ("".join(steps), _LIVE), f" {says(last)}")


def _stacked(parts: Sequence[tuple[float, str]], *, whole: float | None = None, length: int = _BAR) -> Text:
    """Return a bar of parts (amount, colour); what is not nothing has a character at least."""
    total = whole or sum(amount for amount, _ in parts)
    bar = Text()
    for amount, style in parts:
        if amount > 0:
            bar.append(_SHADES[style] * max(1, round(amount / total * length)), style)
    return bar


def _table(*columns: str) -> Table:
    table = Table(box=None, pad_edge=False, header_style="dim")
    left = {"step", "run", "class", "written by", "on", ""}
    for column in columns:
        table.add_column(column, justify="left" if column in left else "right", overflow="fold")
    return table


def _indented(table: Table) -> RenderableType:
    return Padding.indent(table, 2)
