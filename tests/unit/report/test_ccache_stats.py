"""The picture of the compiler cache, on a narrow terminal and a wide one, and where nothing is known."""

from __future__ import annotations

import io

import pytest
from rich.console import Console, Group, RenderableType

from imagetiers.planning.hit_rates import ClassHits
from imagetiers.report.ccache_stats import (
    CompileHistory,
    NamespaceView,
    Writer,
    history_picture,
    namespace_picture,
    writers_table,
)
from tests.conftest import HERE, Golden

DAY = 86_400.0
NOW = 100 * DAY
SPACE = NamespaceView(
    "trusted.main.arr-coc.builder.ccache-4.14",
    sequence=12,
    reason="push",
    written=NOW - 3 * 3600,
    results=1_116,
    manifests=1_119,
    files=138_000_000,
    live=66_000_000,
    dead=4_000_000,
    other=9_000_000,
    packs=9,
    retired=3,
    freed=2_500_000,
    runs=(
        ("pytorch-clean", "good", NOW - 3 * 3600, 2_100, 120_000_000),
        ("pytorch-clean", "before", NOW - 2 * DAY, 1_900, 100_000_000),
    ),
    states=(
        (9, NOW - 20 * DAY, "push", 1_200),
        (11, NOW - 9 * DAY, "checkpoint", 1_900),
        (12, NOW - 3 * 3600, "push", 2_235),
    ),
    lost=("ccache/x/index/y: gone",),
)
HISTORY = CompileHistory(
    "pytorch-clean",
    NOW - 3 * 3600,
    (
        ClassHits("C and C++", 900, 100, 0, 5_000.0, 700.0),
        ClassHits("device code sm_80", 40, 10, 0, 1_500.0, 900.0),
        ClassHits("host half of CUDA", 50, 0, 0, 20.0, 0.0),
    ),
    ((NOW - 30 * DAY, 0.0), (NOW - 20 * DAY, 0.5), (NOW - 9 * DAY, 0.99), (NOW - 3 * 3600, 0.8)),
    ((NOW - 20 * DAY, 20_000_000), (NOW - 9 * DAY, 50_000_000), (NOW - 3 * 3600, 70_000_000)),
)
WRITERS = [
    Writer("untrusted/pr-7", "github-actions", 2, 1_000_000, NOW - 2 * DAY),
    Writer("trusted", "cloud-build", 14, 80_000_000, NOW - 3 * 3600),
    Writer("trusted", "", 3, 0, NOW - 60 * DAY),
]


def text_of(renderable: RenderableType, width: int) -> str:
    file = io.StringIO()
    Console(file=file, width=width).print(renderable)
    return "\n".join(line.rstrip() for line in file.getvalue().splitlines()) + "\n"


@pytest.mark.parametrize("width", [80, 160])
def test_the_picture(golden: Golden, width: int) -> None:
    whole = Group(namespace_picture(SPACE, NOW), history_picture(HISTORY, NOW), writers_table(WRITERS, NOW))
    text = text_of(whole, width)
    assert max(map(len, text.splitlines())) <= width
    golden(text, HERE / "golden" / f"ccache-stats-{width}.txt")


def test_an_empty_namespace() -> None:
    empty = NamespaceView("x", 0, "", NOW, 0, 0, 0, 0, 0, 0, 0, 0, 0, (), ((0, NOW, "", 0),))
    assert text_of(namespace_picture(empty, NOW), 80).splitlines() == [
        "x",
        "  state 0 (empty), 0 s old: 0 results, 0 manifests; 0 B as files",
    ]


def test_what_is_not_nothing_is_seen() -> None:
    small = NamespaceView("x", 1, "push", NOW, 1, 0, 10, 1_000_000, 1, 0, 1, 0, 0)
    assert "▓" in text_of(namespace_picture(small, NOW), 80).splitlines()[2]
