"""The report's page: one file, the numbers that it was given, and whatever names hold is text in it."""

from __future__ import annotations

import re
from dataclasses import replace
from html.parser import HTMLParser
from itertools import pairwise

import pytest

from imagetiers.planning.hit_rates import ClassHits
from imagetiers.planning.sizes import LayerSize
from imagetiers.planning.timeline import Span, Timeline
from imagetiers.report.ccache_stats import CompileHistory, NamespaceView
from imagetiers.report.page.charts import NODE_HEIGHT, NODE_WIDTH, graph, growth_chart, layer_bars, span_bar
from imagetiers.report.page.model import (
    BuildState,
    CompileRun,
    DeviceRow,
    DeviceView,
    Forecasted,
    KeyView,
    PageView,
    ScanView,
    SlowObject,
    TierView,
    VulnerabilityView,
)
from imagetiers.report.page.render import page_html

HOSTILE = '"><script>alert(1)</script><img src=x onerror=alert(1)>\x1b[2J\u202e{{ 7 * 7 }}</title></style>'
VOID = {"meta", "img", "br", "hr", "link", "input"}


class Page(HTMLParser):
    """Reads a page; every element must be closed."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.words.append(data)

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]


def tier(name: str, parent: str | None, text: str = "") -> TierView:
    key = KeyView(f'{{"tier": "{text}"}}', "a" * 64, 1.7e9, (f"arg X: {text} -> 2",))
    layers = (LayerSize(80_000_000, 0, f"ADD {text}"), LayerSize(50_000_000, 3_000_000, f"RUN {text}"))
    return TierView(name, parent, "b" * 64, BuildState.VERIFIED, key, 130_000_000, 1.7e9, layers, 1, 14)


def namespace(text: str) -> NamespaceView:
    """Return a namespace of 176 entries; `text` is its name, and that of its compile step."""
    return NamespaceView(
        text,
        sequence=7,
        reason="push",
        written=1.7e9,
        results=100,
        manifests=76,
        files=1000,
        live=900,
        dead=50,
        other=50,
        packs=3,
        retired=2,
        freed=40,
        runs=((text, "good", 1.7e9, 170, 880),),
        states=((6, 1.69e9, "push", 90), (7, 1.7e9, "push", 176)),
    )


def page(text: str = "plain", name: str = "") -> PageView:
    """Return a page of all sections; `text` stands wherever builds or people have written something."""
    names = [f"{number}{name}" for number in range(5)]
    parents = [None, *names[:2], names[0], None]
    tiers = tuple(tier(own, parent, text) for own, parent in zip(names, parents, strict=True))
    spans = (
        Span(f"compile:{text}", 1000.0, 60.0, {text: 10.0, "compile": 50.0}, "", critical=True),
        Span(f"image:{text}", 1060.0, 20.0, {}, f"compile:{text}", critical=True),
    )
    scanned = VulnerabilityView(text, text, text, "", "high", "fails", new=True)
    return PageView(
        text,
        text,
        1.7e9,
        None,
        tiers,
        Timeline(spans),
        (CompileRun(text, "c" * 64, 1.7e9, 90.0, ClassHits("all", 80, 8, 0, 75.0, 25.0)),),
        (Forecasted(f"compile:{text}", 1.7e9, 80.0, 60.0, 100.0, 90.0, 4),),
        (SlowObject(text, f"/src/build/{text}.o", 25.0, 314_000_000), SlowObject(text, "/src/build/b.o", 5.0, 1)),
        (DeviceView(text, (f"{text} (8.0)",), (DeviceRow(text, by_others=True, fits=((text, "native"),)),), 2),),
        (ScanView(text, 1.7e9, text, text, (scanned, replace(scanned, new=False)), (text,), 7, compared=True),),
        (namespace(text),),
        (CompileHistory(text, 1.7e9, (), (), ((1.69e9, 500), (1.695e9, 900), (1.7e9, 800))),),
        (text,),
    )


def test_the_growth_of_the_cache_is_drawn_to_scale() -> None:
    drawn = growth_chart(page().growth[0])
    points = [tuple(map(float, point.split())) for point in drawn.line[1:].split("L")]
    assert points == [(0.0, 64.7), (500.0, 22.0), (1000.0, 32.7)]
    assert drawn.says == "plain: from 500 B to 800 B in 116 d, 900 B at the most"


def test_the_page_is_whole_and_needs_nothing_else() -> None:
    text = page_html(page())
    found = Page(text)

    assert text.lstrip().startswith("<!DOCTYPE html>")
    assert not {"script", "link", "img", "iframe", "object", "form"} & {tag for tag, _ in found.tags}
    assert "url(" not in text
    assert "@import" not in text
    assert not re.search(r"(?:https?:)?//\w", text), "nothing is fetched from anywhere"
    for _, attributes in found.tags:
        assert not any(name.startswith("on") for name in attributes)
        for link in (attributes.get("href"), attributes.get("src")):
            assert link is None or link.startswith("#")
    assert found.all("meta")[3]["content"] == "default-src 'none'; style-src 'unsafe-inline'"


def test_it_can_be_read_and_walked_through_without_eyes_or_mouse() -> None:
    found = Page(page_html(page()))
    ids = [attributes["id"] for _, attributes in found.tags if "id" in attributes]

    assert found.all("html")[0]["lang"] == "en"
    assert len(set(ids)) == len(ids)
    for link in found.all("a"):
        assert (link["href"] or "")[1:] in ids
    for drawn in found.all("svg"):
        assert drawn.get("aria-label") or drawn.get("aria-hidden") == "true"
    for section in found.all("section"):
        assert section.get("aria-label") or section["aria-labelledby"] in ids
    for scrolled in (attributes for _, attributes in found.tags if attributes.get("class") == "scroll"):
        assert (scrolled["tabindex"], scrolled["role"]) == ("0", "region")
        assert scrolled["aria-label"]
    assert all(head.get("scope") in {"col", "row"} for head in found.all("th"))
    levels = [int(tag[1]) for tag, _ in found.tags if re.fullmatch(r"h\d", tag)]
    assert levels[0] == 1
    assert all(below - above <= 1 for above, below in pairwise(levels))


@pytest.mark.parametrize("text", ["<b>", HOSTILE, "' onload='x", "</style><script>", "&lt;"])
def test_whatever_names_hold_is_text(text: str) -> None:
    found = Page(page_html(page(text, name=text)))
    plain = Page(page_html(page("x", name="x")))

    assert [tag for tag, _ in found.tags] == [tag for tag, _ in plain.tags]
    assert [sorted(attributes) for _, attributes in found.tags] == [sorted(attributes) for _, attributes in plain.tags]
    shown = text.replace("\x1b[2J", "\\x1b[2J").replace("\u202e", "\\u202e")
    assert any(shown in words for words in found.words)
    whole = page_html(page(text, name=text))
    assert "\x1b" not in whole
    assert "\u202e" not in whole
    assert "49" not in re.findall(r"\{\{ 7 \* 7 \}\}|49", whole)


def test_the_numbers_are_those_of_the_records() -> None:
    words = " ".join(" ".join(Page(page_html(page())).words).split())

    for said in (
        "5 of 5 built",
        "Largest image 130 MB",
        "Last build 80 s",
        "Last compile 75.0 % saved",
        "after each of 3 compiles; at the most 900 B",
        "90 s 80 s +12 % 4, 60 s to 100 s",
        "80 of 88 calls were hits, 75 of 100 s saved (75.0 %)",
        "2 layers, 3 MB twice",
        "176 entries",
        "doit ccache:prune would free 40 B",
        "arg X: plain -> 2",
        "plain (8.0)",
        "and 2 more",
        "9 found on 2023-11-14 22:13 UTC by plain",
        "1 of those below are new, 1 are gone since the image before",
    ):
        assert said in words, said


def test_a_compile_that_called_no_compiler_and_tiers_without_a_verdict_are_said() -> None:
    whole = page()
    idle = replace(whole.compiles[0], total=ClassHits("all"))
    unread = replace(whole.tiers[1], layers=())
    shown = page_html(replace(whole, compiles=(idle,), tiers=(whole.tiers[0], unread)))
    words = " ".join(" ".join(Page(shown).words).split())

    assert "Last compile 90 s" in words
    assert "no compiler was called through ccache" in words
    assert "Not of 1: no verdict says what the layers weigh." in words


@pytest.mark.parametrize(
    ("took", "off", "near"),
    [(90.0, "+12 %", True), (30.0, "-62 %", False), (80.0, "+0 %", True), (240.0, "+200 %", False)],
)
def test_a_forecast_is_held_against_what_happened(took: float, off: str, near: bool) -> None:  # noqa: FBT001  a parameter
    said = replace(page().forecasts[0], took=took)
    assert (said.off, said.near) == (off, near)


def test_a_pipeline_that_was_never_built_has_a_page() -> None:
    nothing = KeyView("{}")
    tiers = (TierView("a", None, "1" * 64, BuildState.NONE, nothing),)
    words = " ".join(Page(page_html(PageView("p", "", 1.7e9, 1.6e9, tiers))).words)

    assert "0 of 1 built" in words
    assert "no record" in words
    assert "No build with another key is recorded." in words


def test_no_tier_is_drawn_over_another() -> None:
    places = [(node.x, node.y) for node in graph(page()).nodes]

    assert len(set(places)) == 5
    for x, y in places:
        others = [(a, b) for a, b in places if (a, b) != (x, y)]
        assert all(abs(a - x) >= NODE_WIDTH or abs(b - y) >= NODE_HEIGHT for a, b in others)
    # 0 is the parent of 1 and 3, and 1 of 2; 4 stands alone, below all of them.
    assert [x > 10 for x, _ in places] == [False, True, True, True, False]
    assert places[3][1] > places[1][1]
    assert max(y for _, y in places) == places[4][1]


def test_bars_are_as_long_as_what_they_say() -> None:
    small = replace(tier("s", None), layers=(LayerSize(65_000_000, 6_500_000, "ADD"),), own=0)
    (_, large), (_, half) = layer_bars([tier("l", None), small])

    assert [(round(part.at), round(part.length), part.what) for part in large.segments] == [
        (0, 615, "inherited"),
        (615, 385, "own1"),
    ]
    assert [(round(part.length), round(part.marked)) for part in half.segments] == [(500, 50)]
    timeline = page().timeline
    assert timeline is not None
    (part,) = span_bar(timeline.spans[1], timeline).segments
    assert (round(part.at), round(part.length), part.what) == (750, 250, "critical")
