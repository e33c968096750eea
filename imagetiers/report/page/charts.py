"""The report's charts, as places and lengths: the template draws them. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from imagetiers.planning.timeline import Span, Timeline
from imagetiers.report.amounts import age_text, size_text
from imagetiers.report.ccache_stats import CompileHistory, NamespaceView
from imagetiers.report.page.model import CompileRun, PageView, TierView

__all__ = [
    "ChartBar",
    "GrowthChart",
    "Segment",
    "TierEdge",
    "TierGraph",
    "TierNode",
    "compile_bar",
    "graph",
    "growth_chart",
    "layer_bars",
    "span_bar",
    "stored_bar",
]

WIDE = 1000.0
"""A bar's whole length; it is stretched to the room that there is."""

GROWTH_HEIGHT = 120.0
_STROKE = 2.0
_FILLED = 0.8  # of the height, by the largest value: a line on the edge looks like a frame
_LEAST = 1.5  # of a segment that would not be seen otherwise
NODE_WIDTH, NODE_HEIGHT, _GAP_X, _GAP_Y, _EDGE = 212, 76, 40, 20, 2


@dataclass(frozen=True, slots=True)
class Segment:
    """A part of a bar: where it begins, its length, what it is (a class of the style sheet), what it says."""

    at: float
    length: float
    what: str
    says: str
    marked: float = 0.0


@dataclass(frozen=True, slots=True)
class ChartBar:
    """A bar and what it says to those who do not see it."""

    segments: tuple[Segment, ...]
    says: str


@dataclass(frozen=True, slots=True)
class TierNode:
    """A tier's place in the graph."""

    tier: TierView
    x: float
    y: float


@dataclass(frozen=True, slots=True)
class TierEdge:
    """A line from a parent to its child, as an SVG path."""

    path: str


@dataclass(frozen=True, slots=True)
class TierGraph:
    """The tree of tiers, from left to right; in pixels."""

    width: float
    height: float
    nodes: tuple[TierNode, ...]
    edges: tuple[TierEdge, ...]


def graph(page: PageView) -> TierGraph:
    """Place the tiers: a column for each generation, a child beside its parent, none over another."""
    children = page.children()
    places: dict[str, tuple[int, int]] = {}
    row = 0
    todo = [(tier, 0) for tier in reversed(children.get(None, ()))]
    last = -1
    while todo:
        tier, depth = todo.pop()
        if depth <= last:
            row += 1
        places[tier.name] = (depth, row)
        last = depth
        todo += [(child, depth + 1) for child in reversed(children.get(tier.name, ()))]
    step_x, step_y = NODE_WIDTH + _GAP_X, NODE_HEIGHT + _GAP_Y
    nodes = [
        TierNode(tier, _EDGE + places[tier.name][0] * step_x, _EDGE + places[tier.name][1] * step_y)
        for tier in page.tiers
    ]
    at = {node.tier.name: node for node in nodes}
    edges = [_edge(at[node.tier.parent], node) for node in nodes if node.tier.parent in at]
    width = max((node.x for node in nodes), default=0) + NODE_WIDTH + _EDGE
    height = max((node.y for node in nodes), default=0) + NODE_HEIGHT + _EDGE
    return TierGraph(width, height, tuple(nodes), tuple(edges))


def _edge(parent: TierNode, child: TierNode) -> TierEdge:
    x, y = parent.x + NODE_WIDTH, parent.y + NODE_HEIGHT / 2
    to_x, to_y = child.x, child.y + NODE_HEIGHT / 2
    middle = to_x - _GAP_X / 2
    return TierEdge(f"M{x:g} {y:g}H{middle:g}V{to_y:g}H{to_x:g}")


def layer_bars(tiers: Iterable[TierView]) -> list[tuple[TierView, ChartBar]]:
    """Draw the layers of all tiers on one scale; what stands there twice is marked."""
    shown = [tier for tier in tiers if tier.layers]
    most = max((tier.weight for tier in shown), default=0)
    return [(tier, _layers(tier, most)) for tier in shown]


def _layers(tier: TierView, most: int) -> ChartBar:
    segments = []
    at = 0.0
    for number, layer in enumerate(tier.layers):
        length = _share(layer.size, most)
        if not layer.size:
            continue
        what = "inherited" if number < tier.own else f"own{number % 2}"
        twice = f", {size_text(layer.twice)} of it twice" if layer.twice else ""
        says = f"{size_text(layer.size)}{twice}: {layer.instruction or 'the base image'}"
        segments.append(Segment(at, length, what, says, _share(layer.twice, most)))
        at += length
    own = size_text(sum(layer.size for layer in tier.layers[tier.own :]))
    whole = f"{tier.name}: {size_text(tier.weight)} in {len(tier.layers)} layers"
    return ChartBar(tuple(segments), f"{whole}, {own} of its own, {size_text(tier.twice)} twice")


def span_bar(span: Span, timeline: Timeline) -> ChartBar:
    """Draw a task of the last build where it ran, phase by phase."""
    whole = timeline.seconds
    at = WIDE * (span.began - timeline.began) / whole if whole else 0.0
    length = max(_LEAST, WIDE * span.seconds / whole) if whole else WIDE
    segments = [Segment(at, length, "critical" if span.critical else "task", f"{span.task}: {age_text(span.seconds)}")]
    total = sum(span.phases.values())
    here = at
    for number, (name, seconds) in enumerate(span.phases.items()):
        part = length * seconds / max(total, span.seconds) if max(total, span.seconds) else 0.0
        if part >= _LEAST and number % 2:
            segments.append(Segment(here, part, "phase", f"{name}: {age_text(seconds)}"))
        here += part
    critical = ", on the critical path" if span.critical else ""
    waited = f", after {span.waited_for}" if span.waited_for else ""
    begins = age_text(span.began - timeline.began)
    return ChartBar(
        tuple(segments), f"{span.task}: began after {begins}{waited}, took {age_text(span.seconds)}{critical}"
    )


def compile_bar(run: CompileRun, most: float) -> ChartBar:
    """Draw what hits have saved and what was compiled, in the compilers' seconds, on the scale of the largest."""
    saved, compiled = _share(run.total.saved, most), _share(run.total.compiled, most)
    segments = (
        Segment(0.0, saved, "saved", f"{age_text(run.total.saved)} saved by hits"),
        Segment(saved, compiled, "compiled", f"{age_text(run.total.compiled)} compiled"),
    )
    return ChartBar(tuple(one for one in segments if one.length), f"{run.tier}: {run}")


def stored_bar(space: NamespaceView, most: int) -> ChartBar:
    """Draw a namespace's bytes: live, dead, and what only earlier states need."""
    segments = []
    at = 0.0
    for size, what, says in (
        (space.live, "live", "live"),
        (space.dead, "dead", "dead, in packs that are still needed"),
        (space.other, "other", "of earlier states, or left over"),
    ):
        length = _share(size, most)
        if size:
            segments.append(Segment(at, length, what, f"{size_text(size)} {says}"))
            at += length
    return ChartBar(tuple(segments), f"{space.name}: {size_text(space.stored)}, {size_text(space.live)} of them live")


@dataclass(frozen=True, slots=True)
class GrowthChart:
    """A course over time: its line and the area below it, as SVG paths in a box of WIDE by GROWTH_HEIGHT.

    `most` is the largest value, in bytes, which the line has a fifth of the height above it for.
    """

    line: str
    area: str
    most: int
    says: str


def growth_chart(history: CompileHistory) -> GrowthChart:
    """Draw the bytes that a tier's compiler cache held after each compile, from nothing to the most that there were."""
    (began, first), (ended, last) = history.sizes[0], history.sizes[-1]
    most = max(size for _, size in history.sizes)
    span = ended - began
    room = GROWTH_HEIGHT * _FILLED

    def place(number: int, at: float, size: int) -> str:
        x = WIDE * (at - began) / span if span > 0 else WIDE * number / (len(history.sizes) - 1)
        return f"{x:.1f} {GROWTH_HEIGHT - _STROKE - room * size / most:.1f}"

    line = "M" + "L".join(place(number, at, size) for number, (at, size) in enumerate(history.sizes))
    says = f"{history.tier}: from {size_text(first)} to {size_text(last)} in {age_text(span)}, {size_text(most)} at the most"
    return GrowthChart(line, f"{line}V{GROWTH_HEIGHT:g}H0Z", most, says)


def _share(value: float, most: float) -> float:
    return max(_LEAST, WIDE * value / most) if value > 0 and most > 0 else 0.0
