"""Forecasts: what is like what, sums, prices, the table; and the questions that a plan asks of a cache."""

from __future__ import annotations

import json
import math
import socket
import statistics
import time
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from imagetiers.adapters.console import RichConsole
from imagetiers.adapters.display import BuildDisplay, ToldConsole
from imagetiers.config.layout import Layout
from imagetiers.config.model import CloudBuild
from imagetiers.errors import NotBuiltError, UnavailableError
from imagetiers.operations import plan as plan_step
from imagetiers.operations.plan import show_plan
from imagetiers.planning.forecast import (
    USED,
    BuildKind,
    BuildProfile,
    Forecast,
    Pull,
    Sample,
    Step,
    Sum,
    TierForecast,
    Wheels,
    accuracy,
    add_up,
    all_of,
    all_pulls,
    compile_change,
    expected_steps,
    forecast,
    image_change,
    pulls,
    read_sample,
    usd,
)
from imagetiers.planning.observed import ObservedState, RegistryState
from imagetiers.planning.plan import Plan
from imagetiers.report.forecast import forecast_document, forecast_table, usd_text
from imagetiers.retry import RetryPolicy
from imagetiers.services import Services
from imagetiers.state.history import expect_image
from imagetiers.state.observe import observe
from imagetiers.state.records import Record, keep
from imagetiers.stores.directory import DirectoryStore
from imagetiers.stores.gcs import GcsStore
from imagetiers.stores.timeout import TimeoutStore
from tests.conftest import HERE, Golden, tiers_of
from tests.registry.harness import Builder, builder

LIKE = BuildProfile("tiny", "", BuildKind.COMPILE_WARM.value, 2)
SECONDS = st.floats(0.01, 1e5)


def sample(seconds: float, began: float = 0.0, like: BuildProfile = LIKE, predicted: Forecast | None = None) -> Sample:
    return Sample(like, began, seconds, predicted)


# ---- pure ----


@given(st.lists(SECONDS, max_size=40))
def test_a_forecast_is_the_newest_ones_median_and_range(seconds: list[float]) -> None:
    samples = [sample(value, began=index) for index, value in enumerate(seconds)]
    told = forecast(reversed(samples), LIKE)

    newest = seconds[-USED:]
    if not newest:
        assert told is None
        return
    assert told is not None
    assert told.low <= told.seconds <= told.high
    assert (told.low, told.high, told.records) == (min(newest), max(newest), len(newest))
    assert told.seconds == statistics.median(newest)


@given(
    st.sampled_from(
        [
            replace(LIKE, pipeline="other"), replace(LIKE, variant="cpu"), replace(LIKE, cpus=32),
            replace(LIKE, change=BuildKind.COMPILE_COLD.value), replace(LIKE, change=""),
        ]
    ),
    SECONDS,
)  # fmt: skip
def test_what_is_not_like_it_tells_nothing(other: BuildProfile, seconds: float) -> None:
    assert forecast([sample(seconds, like=other)], LIKE) is None
    known = forecast([sample(seconds, like=other), sample(7.0)], LIKE)
    assert known == Forecast(7.0, 7.0, 7.0, 1)


def test_an_engine_that_nobody_knows_is_like_none() -> None:
    nobody = replace(LIKE, cpus=0)
    assert forecast([sample(1.0, like=nobody)], nobody) is None


JSON = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=9), inner, max_size=4),
    max_leaves=8,
)
FIELDS = ("pipeline", "variant", "change", "began", "seconds", "cpus", "predicted")


@given(st.fixed_dictionaries(dict.fromkeys(FIELDS, JSON | st.just(LIKE.change))) | JSON)
def test_whatever_a_record_holds_is_read_or_left_out(document: object) -> None:
    read = read_sample(document)

    if read is not None:
        assert math.isfinite(read.seconds)
        assert read.seconds >= 0
        assert read.like.change in {change.value for change in BuildKind}


@given(SECONDS, SECONDS, st.none() | st.builds(Forecast, SECONDS, SECONDS, SECONDS, st.integers(1, 9)))
def test_a_record_is_read_as_it_was_written(began: float, seconds: float, said: Forecast | None) -> None:
    record = Record(
        "compile", "pytorch-clean", "0" * 64, began, seconds, pipeline="tiny", change=LIKE.change, cpus=2,
        predicted=said.document() if said is not None else None,
    )  # fmt: skip

    assert read_sample(json.loads(json.dumps(asdict(record)))) == Sample(LIKE, began, seconds, said)


def test_a_record_of_an_earlier_version_tells_nothing() -> None:
    assert read_sample({"kind": "compile", "tier": "a", "key": "b", "began": 1.0, "seconds": 2.0, "hits": 3}) is None


@given(st.lists(st.none() | st.builds(Forecast, SECONDS, SECONDS, SECONDS, st.integers(1, 9)), max_size=8), st.data())
def test_sums_do_not_depend_on_how_they_are_split(steps: list[Forecast | None], data: st.DataObject) -> None:
    named = {f"image:{index}": one for index, one in enumerate(steps)}
    cut = data.draw(st.integers(0, len(steps)))
    whole = add_up(named)
    parts = all_of([add_up(dict(list(named.items())[:cut])), add_up(dict(list(named.items())[cut:]))])

    assert math.isclose(whole.seconds, parts.seconds)
    assert whole.unknown == parts.unknown
    assert whole.known == (None not in steps)


def test_how_good_they_were() -> None:
    said = Forecast(100.0, 80.0, 120.0, 3)
    samples = [sample(110.0, predicted=said), sample(150.0, predicted=said), sample(7.0)]

    told = accuracy([*samples, sample(9.0, like=replace(LIKE, variant="cpu"), predicted=said)], LIKE)

    assert told is not None
    assert (told.records, told.within) == (2, 1)
    assert math.isclose(told.error, 0.3)
    assert accuracy([sample(7.0)], LIKE) is None


def test_prices() -> None:
    assert usd(1800, 3.0) == 1.5
    assert [usd_text(amount) for amount in (0.0, 0.004, 0.01, 1234.567)] == ["$0.00", "< $0.01", "$0.01", "$1,234.57"]
    medium = CloudBuild("b", machine="E2_MEDIUM")
    pool = CloudBuild("b", pool="projects/p/locations/l/workerPools/big")
    assert (CloudBuild("b").cpus, medium.cpus, replace(medium, processors=2).cpus, pool.cpus) == (32, 0, 2, 0)
    assert pool.worker == "big"


# ---- what would be built ----

# Its threads outlive a test: one that went on trying would draw its jitter in the middle of a strategy of another.
ONCE = RetryPolicy(total=0.1)


@pytest.fixture
def me(tiny: Layout, tmp_path: Path) -> Builder:
    return builder(tiny.root, "", tmp_path / "cache")


def test_kinds_of_compiles(me: Builder) -> None:
    compiled = me.tier("pytorch-clean").compile
    assert compiled is not None
    step = compiled.config
    kinds = [compile_change(step, good=good, some=some) for good in (True, False) for some in (True, False)]
    assert kinds == [BuildKind.COMPILE_WARM, BuildKind.COMPILE_WARM, BuildKind.COMPILE_PARTLY, BuildKind.COMPILE_COLD]
    assert compile_change(replace(step, ccache=None), good=True, some=True) is BuildKind.COMPILE
    assert {change.kind for change in BuildKind} == {"compile", "image"}


def changes(plan: Plan, seen: ObservedState, **wheels: Wheels) -> dict[str, list[str]]:
    given_ = {name.replace("_", "-"): value for name, value in wheels.items()}
    steps = expected_steps(plan, tiers_of(plan, seen), seen, given_)
    return {name: [step.change.value for step in some] for name, some in steps.items()}


def test_what_would_be_built(me: Builder) -> None:
    cold = changes(me.plan, ObservedState(), pytorch_clean=Wheels())
    assert cold == {"pytorch-clean": ["compile cold", "image"], "arr-base": ["image"], "arr-training": ["image"]}
    assert changes(me.plan, ObservedState(), pytorch_clean=Wheels(good=True))["pytorch-clean"][0] == "compile warm"
    assert changes(me.plan, ObservedState(), pytorch_clean=Wheels(size=9, good=True))["pytorch-clean"] == ["image"]
    forced = changes(me.plan, ObservedState(forced=frozenset({"image:arr-base"})), pytorch_clean=Wheels(size=9))
    assert forced["arr-base"] == ["image without layers"]


def test_a_parent_that_only_the_registry_has_is_pulled_once(me: Builder) -> None:
    published = RegistryState(digest="sha256:" + "a" * 64, image="sha256:b", size=80)
    check = me.tier("pytorch-clean").verify.check
    states = {"pytorch-clean": published, "arr-base": RegistryState(), "arr-training": RegistryState()}
    seen = ObservedState(registered=states, verdicts=frozenset({("sha256:b", check)}))
    steps = expected_steps(me.plan, tiers_of(me.plan, seen), seen, {})

    assert {name: [step.change.value for step in some] for name, some in steps.items()} == {
        "pytorch-clean": [], "arr-base": ["image, parent pulled"], "arr-training": ["image"],
    }  # fmt: skip
    told = {d.tier.name: pulls(me.plan, d, steps[d.tier.name], seen, None) for d in tiers_of(me.plan, seen)}
    assert told["arr-base"] == (Pull("image pytorch-clean", 80),)
    tier_forecasts = [TierForecast(name, pulls=some) for name, some in told.items()]
    assert all_pulls([*tier_forecasts, TierForecast("sister", pulls=told["arr-base"])]) == 80

    unchecked = replace(seen, verdicts=frozenset())
    steps = expected_steps(me.plan, tiers_of(me.plan, unchecked), unchecked, {})
    assert steps["arr-base"][0].change is BuildKind.IMAGE, "the parent is pulled for its own checks"
    assert pulls(me.plan, tiers_of(me.plan, unchecked)[0], (), unchecked, None) == (Pull("image pytorch-clean", 80),)


def test_the_plan_and_the_build_agree_on_an_image(me: Builder) -> None:
    """The build asks the same function, with what is here when it begins."""
    assert expect_image(me.session, me.tier(), ObservedState(), force=False).like.change == "image, parent pulled"
    me.make("pytorch-clean")
    seen = observe(me.session)
    told = expect_image(me.session, me.tier(), seen, force=False)

    assert told.like.change == changes(me.plan, seen)["arr-base"][0] == "image"
    assert told.predicted is None
    assert image_change(me.tier(), {"pytorch-clean"}, force=True).value == "image without layers"


# ---- the table ----


def test_the_table(me: Builder, golden: Golden) -> None:
    three = Forecast(332.0, 280.0, 7300.0, 3)
    plan = replace(
        me.plan,
        pipeline=replace(me.plan.pipeline, cloudbuild=CloudBuild("b", usd_per_hour=1.15)),
    )
    tier_forecasts = {
        "pytorch-clean": TierForecast(
            "pytorch-clean",
            (
                Step("compile:pytorch-clean", BuildKind.COMPILE_WARM, three, replace(three, seconds=1200.0)),
                Step("image:pytorch-clean", BuildKind.IMAGE, Forecast(21.0, 21.0, 21.0, 1)),
            ),
            (Pull("ccache of pytorch-clean", 695_000_000),),
        ),
        "arr-base": TierForecast("arr-base", (Step("image:arr-base", BuildKind.IMAGE),)),
        "arr-training": TierForecast("arr-training", pulls=(Pull("image arr-training", 186_000_000),)),
        "unasked": TierForecast("unasked", unknown=True),
    }
    free = replace(plan, pipeline=replace(plan.pipeline, cloudbuild=CloudBuild("b")))
    known = {name: tier_forecasts[name] for name in ("arr-training", "pytorch-clean")}
    with Path("/dev/null").open("w") as nowhere:
        console = Console(width=150, record=True, force_terminal=False, highlight=False, file=nowhere)
        for table in (forecast_table(plan, tier_forecasts, 2), forecast_table(free, known, 0)):
            assert table is not None
            console.print(table)
        text = console.export_text()

    golden("\n".join(line.rstrip() for line in text.splitlines()) + "\n", HERE / "golden" / "forecast.txt")
    assert forecast_table(plan, {"arr-base": TierForecast("arr-base")}, 2) is None
    assert TierForecast("a").here == Sum()


def test_nothing_unknown_becomes_a_number(me: Builder) -> None:
    machine = CloudBuild("b", usd_per_hour=1.15)
    half = TierForecast(
        "a", (Step("compile:a", BuildKind.IMAGE, Forecast(1.0, 1.0, 1.0, 1)), Step("image:a", BuildKind.IMAGE))
    )

    told = forecast_document(half, machine)
    assert (told["seconds"], told["usd"]) == (None, None)
    assert forecast_document(TierForecast("a"), machine)["usd"] == {"median": 0.0, "low": 0.0, "high": 0.0}
    assert forecast_document(TierForecast("a", unknown=True), machine)["seconds"] is None
    assert forecast_document(TierForecast("a"), me.plan.pipeline.cloudbuild)["usd"] is None


# ---- the verb ----


def recorded(
    me: Builder, *seconds: float, began: float = 1000.0, change: BuildKind = BuildKind.IMAGE, cpus: int = 2, **more: Any
) -> None:
    tier = me.tier()
    like = {"pipeline": "tiny", "change": change.value, "cpus": cpus, **more}
    for index, value in enumerate(seconds):
        record = Record("image", tier.name, tier.key, began + index, value)
        keep(me.session, tier.key_document, replace(record, **like))


def asked(me: Builder, capsys: pytest.CaptureFixture[str], services: Services | None = None, **options: Any) -> Any:
    show_plan(replace(me.session, services=services or me.services), to="-", **options)
    return json.loads(capsys.readouterr().out)


def test_records_become_forecasts(me: Builder, capsys: pytest.CaptureFixture[str]) -> None:
    said = Forecast(5.0, 4.0, 6.0, 1).document()
    recorded(me, 4.0, 6.0, 8.0, predicted=said)
    recorded(me, 600.0, cpus=32, began=1100.0)
    recorded(me, 700.0, change=BuildKind.IMAGE_AFRESH, began=1200.0)
    recorded(me, 800.0, variant="loud", began=1300.0)
    me.services.store.write("records/arr-base/image/2000-damaged.json", b"{")
    me.make("pytorch-clean")

    plan = asked(me, capsys)

    one = plan["tiers"][1]["forecast"]
    assert one["steps"] == [
        {
            "task": "image:arr-base",
            "change": "image",
            "forecast": {"seconds": 6.0, "low": 4.0, "high": 8.0, "from": 3},
            "on_machine": {"seconds": 600.0, "low": 600.0, "high": 600.0, "from": 1},
        }
    ]
    assert one["so_far"] == {"image": {"records": 3, "within": 2, "error": 0.2}}
    assert one["usd"] is None
    assert plan["forecast"]["seconds"] is None
    assert plan["forecast"]["unknown"] == ["image:arr-training"]
    assert plan["forecast"]["machine"] == {"name": "E2_HIGHCPU_32", "cpus": 32, "usd_per_hour": None}


def test_only_the_newest_records_are_read(me: Builder, capsys: pytest.CaptureFixture[str]) -> None:
    recorded(me, *[1000.0] * 40, *map(float, range(12)))
    asked_for: list[str] = []
    store: Any = me.services.store

    class Watched(DirectoryStore):
        def read(self, name: str, *, start: int = 0, length: int | None = None) -> tuple[bytes, int]:
            asked_for.append(name)
            return super().read(name, start=start, length=length)

    me.make("pytorch-clean")
    plan = asked(me, capsys, replace(me.services, store=Watched(store.root)))

    told = plan["tiers"][1]["forecast"]["steps"][0]["forecast"]
    assert told == {"seconds": 6.5, "low": 2.0, "high": 11.0, "from": 10}
    assert len([name for name in asked_for if name.startswith("records/arr-base/")]) == 30


def test_a_plan_with_nothing_to_build_asks_the_cache_nothing(me: Builder, capsys: pytest.CaptureFixture[str]) -> None:
    for name in me.plan.tiers:
        me.make(name)
    quiet = replace(
        me.services, store=TimeoutStore(GcsStore("nobody-is-there", endpoint="http://127.0.0.1:9", policy=ONCE))
    )

    plan = asked(me, capsys, quiet, require_built=True)

    assert plan["notes"] == []
    assert plan["forecast"]["seconds"] == {"median": 0.0, "low": 0.0, "high": 0.0}


def test_the_gate_names_what_would_be_built(me: Builder, capsys: pytest.CaptureFixture[str]) -> None:
    me.make("pytorch-clean")
    with pytest.raises(NotBuiltError) as error:
        asked(me, capsys, require_built=True)

    assert str(error.value) == (
        "plan --require-built: arr-base: is not built, image:arr-base would run: never built here\n"
        "  hint: doit explain arr-base\n"
        "plan --require-built: arr-training: is not built, image:arr-training would run: never built here\n"
        "  hint: doit explain arr-training"
    )
    assert json.loads(capsys.readouterr().out)["version"] == 1, "the plan is written all the same"


def test_the_gate_does_not_take_unknown_for_absent(
    me: Builder, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    states = {name: RegistryState(unknown="host/tiny: the registry answers 503") for name in me.plan.tiers}
    monkeypatch.setattr(plan_step, "observe", lambda *_: ObservedState(registered=states))

    with pytest.raises(NotBuiltError, match="arr-base: nobody can tell whether it is built: host/tiny: the registry"):
        asked(me, capsys, require_built=True)

    plan = json.loads(capsys.readouterr().out)
    assert plan["tiers"][0]["state"] == "unknown"
    assert plan["forecast"]["seconds"] is None


# ---- a cache that is not there ----


@pytest.fixture
def mute() -> Iterator[str]:
    """A server that takes connections and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"http://127.0.0.1:{server.getsockname()[1]}"


def test_a_cache_that_does_not_answer_costs_a_line(
    me: Builder, mute: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(plan_step, "TimeoutStore", lambda store: TimeoutStore(store, 0.3))
    store = GcsStore("bucket", "p", endpoint=mute, policy=ONCE)
    screen = RichConsole()
    services = replace(me.services, store=store, console=ToldConsole(screen, BuildDisplay(screen)))
    began = time.monotonic()

    plan = asked(me, capsys, services)
    show_plan(replace(me.session, services=services))

    assert time.monotonic() - began < 5
    line = (
        "no forecast: the cache gs://bucket/p is not there, and what it knows is left out: did not answer within 0.3 s"
    )
    assert plan["notes"] == [line]
    assert plan["forecast"] is plan["tiers"][0]["forecast"] is None
    shown = capsys.readouterr().out
    assert shown.count(line) == shown.count("cache") == 1
    assert "never built here" in shown
    store.close()


def test_after_one_question_without_an_answer_none_is_asked(mute: str) -> None:
    store = GcsStore("bucket", endpoint=mute, policy=ONCE)
    hasty = TimeoutStore(store, 0.3)
    for _ in range(50):
        began = time.monotonic()
        with pytest.raises(UnavailableError, match=r"did not answer within 0\.3 s"):
            hasty.read("x")
    assert time.monotonic() - began < 0.1
    store.close()  # the thread that still waits


def test_a_hasty_store_answers_as_the_other_one(tmp_path: Path) -> None:
    store = DirectoryStore(tmp_path)
    hasty = TimeoutStore(store)
    generation = hasty.write("a/b", b"12", if_generation=0)
    (tmp_path / "file").write_bytes(b"34")
    hasty.write_file("a/c", tmp_path / "file")

    assert hasty.read("a/b", start=1) == (b"2", generation)
    assert hasty.stat("a/b") == store.stat("a/b")
    assert list(hasty.list("a/")) == list(store.list("a/"))
    assert hasty.read_file("a/c", tmp_path / "back") == store.read("a/c")[1]
    hasty.delete("a/b")
    assert hasty.stat("a/b") is None
    assert (hasty.url, hasty.error) == (store.url, "")
