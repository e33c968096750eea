"""What `doit status` says of each tier: where its image is, why not, in the order of the graph."""

from __future__ import annotations

import io
import json
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta

import jsonschema
import pytest
from rich.console import Console

from imagetiers.config.layout import Layout
from imagetiers.config.model import Trust, Waiver
from imagetiers.inputs.repository import load_repository
from imagetiers.planning.decide import decide, tier_decisions
from imagetiers.planning.forecast import BuildKind, Forecast, Step, TierForecast
from imagetiers.planning.make import make_plan
from imagetiers.planning.observed import ImageInfo, ObservedState, RegistryState
from imagetiers.planning.pins import PinState
from imagetiers.planning.plan import Plan
from imagetiers.planning.status import Presence, ScanState, tier_statuses
from imagetiers.planning.vulnerabilities import Judged, SeverityLevel, Vulnerability
from imagetiers.report.status import drift_lines, status_document, status_table
from tests.conftest import HERE, statuses_of

OLD = "0" * 64


@pytest.fixture
def plan() -> Plan:
    return make_plan(load_repository(Layout(HERE / "repos" / "tiny"), None), date(2026, 11, 21))


def image(plan: Plan, tier: str, **changes: object) -> ImageInfo:
    """An image of a tier's key, or of another one."""
    key = str(changes.get("key", plan.tiers[tier].key))
    ref = plan.tiers[tier].ref if key == plan.tiers[tier].key else f"tiny/{tier}:{key[:12]}"
    name = plan.pipeline.name
    found = ImageInfo(f"sha256:{tier}{key[:4]}", (ref,), name, "", tier, key, 1000, 80_000_000, trust=Trust().label)
    return replace(found, **changes)  # type: ignore[arg-type]


def seen(*images: ImageInfo, **more: object) -> ObservedState:
    """What the engine has shown."""
    return ObservedState({ref: one for one in images for ref in one.refs}, **more)  # type: ignore[arg-type]


def test_where_an_image_is(plan: Plan) -> None:
    here, old = image(plan, "pytorch-clean"), image(plan, "arr-base", key=OLD)

    states = {one.tier.name: one for one in statuses_of(plan, seen(here, old))}

    assert {name: one.presence for name, one in states.items()} == {
        "pytorch-clean": Presence.LOCAL,
        "arr-base": Presence.STALE,
        "arr-training": Presence.ABSENT,
    }
    assert states["arr-training"].why[0] == "never built here"
    assert states["pytorch-clean"].runs == ("verify:pytorch-clean",)


def test_the_registrys_word(plan: Plan) -> None:
    registered = {
        "pytorch-clean": RegistryState(digest="sha256:ab", image="sha256:x"),
        "arr-base": RegistryState(digest="sha256:cd", image="sha256:y"),
        "arr-training": RegistryState(wrong="its tag was removed"),
    }
    asked = replace(plan, pipeline=replace(plan.pipeline, registry="host/repository"))

    states = statuses_of(asked, seen(image(plan, "pytorch-clean"), registered=registered))

    assert [one.presence for one in states] == [Presence.BOTH, Presence.REGISTRY, Presence.WRONG]
    assert states[2].why[0] == "its tag was removed"
    silent = {name: RegistryState(unknown="the registry does not answer") for name in plan.tiers}
    assert {one.presence for one in statuses_of(asked, seen(registered=silent))} == {Presence.UNKNOWN}


def test_nobody_knows_is_not_absent(plan: Plan) -> None:
    assert {one.presence for one in statuses_of(plan, seen(unknown="docker: down"))} == {Presence.UNKNOWN}


def test_what_has_changed_in_size(plan: Plan) -> None:
    older = image(plan, "arr-base", key=OLD, size=90_000_000, created=10)
    oldest = image(plan, "arr-base", key="1" * 64, size=5, created=5)
    others = image(plan, "arr-base", key="2" * 64, size=7, created=99, variant="cpu")
    now = image(plan, "arr-base", size=81_500_000)

    status = statuses_of(plan, seen(older, oldest, others, now, image(plan, "pytorch-clean")))[1]

    assert status.before == older
    assert (status.change, status.over_parent) == (-8_500_000, 1_500_000)


def _forked(plan: Plan) -> Plan:
    """The chain of three, and two more children of its root, one of them with a child."""
    root, base, training = plan.tiers.values()

    def child(name: str, parent: str) -> object:
        return replace(training, config=replace(training.config, name=name, parent=parent))

    more = {name: child(name, parent) for name, parent in (("web", root.name), ("job", root.name), ("cron", "web"))}
    return replace(plan, tiers={root.name: root, base.name: base, **more, training.name: training})  # type: ignore[dict-item]


def _text(renderable: object, width: int) -> str:
    console = Console(width=width, file=io.StringIO(), force_terminal=True, color_system=None, legacy_windows=False)
    console.print(renderable)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_the_tree_is_drawn(plan: Plan) -> None:
    forked = _forked(plan)

    text = _text(status_table(forked, seen(), statuses_of(forked, seen()), 0, {}), 60)

    names = [line.split("  stale")[0].split("  absent")[0].rstrip() for line in text.splitlines()[2:]]
    assert [name for name in names if name] == [
        "pytorch-clean",
        "├─ arr-base",
        "│  └─ arr-training",
        "├─ web",
        "│  └─ cron",
        "└─ job",
    ]


@pytest.mark.parametrize("width", [80, 200])
def test_it_fits(plan: Plan, width: int) -> None:
    forked = _forked(plan)
    images = seen(*(image(plan, name) for name in plan.tiers))
    warmth = {"pytorch-clean": "compiled in 3 h, 100 % hits, 100 % of the seconds"}

    text = _text(status_table(forked, images, statuses_of(forked, images), 8200, warmth), width)

    assert max(map(len, text.splitlines())) <= width
    assert ("over parent" in text) == (width == 200)


@pytest.mark.parametrize("built", [False, True])
def test_on_80_columns_the_key_stays_beside_a_reason(plan: Plan, built: bool) -> None:  # noqa: FBT001
    """In a chain as deep as this repository's, built or not; the size goes before the key does."""
    last = plan.tiers["arr-training"]
    runner = replace(last, config=replace(last.config, name="arr-runner", parent="arr-training"))
    chain = replace(plan, tiers={**plan.tiers, "arr-runner": runner})
    images = seen(*(image(plan, name) for name in plan.tiers)) if built else seen()

    text = _text(status_table(chain, images, statuses_of(chain, images), 8200, {}), 80)

    assert max(map(len, text.splitlines())) <= 80
    assert "not verified yet" in text if built else "never built here" in text
    assert all(tier.key[:12] in text for tier in chain.tiers.values())


def test_a_pipe_gets_a_line_a_tier(plan: Plan) -> None:
    images = seen(*(image(plan, name) for name in plan.tiers))
    warmth = {"pytorch-clean": "compiled in 3 h, " + 30 * "100 % hits, "}
    console = Console(width=80, file=io.StringIO(), force_terminal=False)

    console.print(status_table(plan, images, statuses_of(plan, images), 8200, warmth), crop=False)

    assert isinstance(console.file, io.StringIO)
    title, head, *rows = console.file.getvalue().splitlines()
    assert (title.strip(), head.split()[0]) == ("tiny: status", "tier")
    assert len(rows) == len(plan.tiers)


def _waiving(plan: Plan, *waivers: Waiver) -> Plan:
    return replace(plan, pipeline=replace(plan.pipeline, waivers=waivers))


def test_what_is_signed(plan: Plan) -> None:
    found = {
        name: RegistryState("sha256:" + 64 * "d", signed=signed)
        for name, signed in zip(plan.tiers, (True, False, None), strict=True)
    }
    asked = seen(registered=found)

    text = _text(status_table(plan, asked, statuses_of(plan, asked), 8200, {}), 250)

    assert [one.signed for one in statuses_of(plan, asked)] == [True, False, None]
    head, *rows = text.splitlines()[1:]
    at = head.index("signed")
    assert [row[at : at + 4].strip() for row in rows] == ["yes", "no", ""]
    assert "signed" not in _text(status_table(plan, seen(), statuses_of(plan, seen()), 8200, {}), 250)


def test_the_waiver_that_runs_out_first(plan: Plan) -> None:
    today = datetime.fromtimestamp(8200, UTC).date()
    in_time, soon, over = (str(today + timedelta(days=days)) for days in (90, 3, -1))
    waiving = _waiving(
        plan,
        Waiver("no input reaches it", in_time, vulnerability="CVE-2026-0001"),
        Waiver("of another tier", soon, vulnerability="CVE-2026-0002", tier="arr-base"),
        Waiver("of a Dockerfile", over, rule="root-user"),
        Waiver("its own", over, vulnerability="CVE-2026-0003", tier="arr-training"),
    )

    statuses = statuses_of(waiving, seen())
    text = _text(status_table(waiving, seen(), statuses, 8200, {}), 200)

    for line, told in zip(text.splitlines()[2:], ("0001 90 d left", "0002 3 d left", "0003 ran out"), strict=True):
        assert f"CVE-2026-{told}" in line
    assert [one.waiver.until for one in statuses if one.waiver is not None] == [in_time, soon, over]
    assert statuses_of(plan, seen())[0].waiver is None


def _scanned() -> ScanState:
    """Return a scan of an hour ago: one vulnerability fails, one is waived, and two are let pass."""
    found = [
        Vulnerability(f"CVE-2026-000{number}", "libx", "1", "2", SeverityLevel.HIGH, "os") for number in range(1, 5)
    ]
    judged = Judged(failing=(found[0],), waived=(found[1],), passed=tuple(found[2:]))
    return ScanState(8200.0 - 7200, "trivy 0.76.0", "2026-11-29T00:00:00Z", judged)


OLD_PIN, NEW_PIN = (f"sha256:{digit * 64}" for digit in "ab")
PINS = {
    "pytorch-clean": (
        PinState("debian:trixie-slim", OLD_PIN, NEW_PIN, 8200.0 - 1200),
        PinState("debian:bookworm", OLD_PIN, OLD_PIN, 8200.0 - 1200),
    ),
    "arr-base": (PinState("https://host/r#v1", "c" * 40, None, 8200.0, "host does not answer"),),
    "arr-training": (PinState("debian:bookworm", OLD_PIN, OLD_PIN, 8200.0 - 1200),),
}


@pytest.mark.parametrize("width", [80, 220])
def test_what_scans_have_found_and_what_has_moved(plan: Plan, width: int) -> None:
    scans = {"pytorch-clean": _scanned(), "arr-base": replace(_scanned(), judged=Judged()), "arr-training": None}

    table = status_table(plan, seen(), statuses_of(plan, seen()), 8200, {}, scans=scans, pins=PINS)
    text = _text(table, width)

    assert max(map(len, text.splitlines())) <= width
    if width == 220:
        for line, told in zip(
            text.splitlines()[2:],
            (
                ("1 fail, 1 waived, 2 pass (2 h ago)", "1 of 2"),
                ("clean (2 h ago)", "unknown"),
                ("not scanned", "none"),
            ),
            strict=True,
        ):
            assert all(part in line for part in told)
    assert drift_lines(PINS, 8200) == [
        "debian:trixie-slim: is now bbbbbbbbbbbb, and was pinned to aaaaaaaaaaaa (asked 20 min ago): doit lock",
        "https://host/r#v1: nobody can tell whether it is what it was pinned to (asked 0 s ago): host does not answer",
    ]
    plain = _text(status_table(plan, seen(), statuses_of(plan, seen()), 8200, {}), 250)
    assert "scan" not in plain
    assert "drift" not in plain


def test_the_document_is_of_its_schema(plan: Plan) -> None:
    schema = json.loads((HERE.parent / "schemas" / "status.schema.json").read_text(encoding="utf-8"))
    images = seen(image(plan, "pytorch-clean"), image(plan, "arr-base", key=OLD))
    decisions = decide(plan, images)
    tiers = tier_decisions(plan, images, decisions)
    step = Step("image:arr-base", BuildKind.IMAGE, Forecast(2.0, 1.0, 3.0, 4))
    outlook = {name: TierForecast(name, (step,) if name == "arr-base" else ()) for name in plan.tiers}

    statuses = tier_statuses(plan, images, decisions, tiers, outlook)
    waived = Waiver("no input reaches it", "2027-01-31", vulnerability="CVE-2026-0001")
    statuses = (replace(statuses[0], waiver=waived), *statuses[1:])
    document = status_document(
        plan,
        images,
        statuses,
        {"pytorch-clean": "x"},
        gpus=[],
        notes=["a note"],
        scans={"pytorch-clean": _scanned()},
        pins=PINS,
    )

    jsonschema.Draft202012Validator.check_schema(schema)
    jsonschema.validate(json.loads(json.dumps(document)), schema)
    assert [tier["state"] for tier in document["tiers"]] == ["local", "stale", "absent"]
    assert document["tiers"][1]["would_take"] == {"seconds": 2.0, "low": 1.0, "high": 3.0, "unknown": []}
    assert document["tiers"][0]["wheels"]["last_compile"] == "x"
    assert document["tiers"][0]["scan"]["failing"] == ["CVE-2026-0001"]
    assert [pin["moved"] for pin in document["tiers"][0]["drift"]] == [True, False]
    assert document["tiers"][1]["drift"][0]["unknown"] == "host does not answer"
    assert (document["tiers"][1]["scan"], document["tiers"][1]["drift"][0]["moved"]) == (None, None)
