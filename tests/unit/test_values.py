"""Commands, decisions and small parsers: values in, values out."""

from __future__ import annotations

import hashlib
import re
from dataclasses import replace
from datetime import date
from pathlib import Path

import pytest
from rich.console import Console

from imagetiers.building.buildlog import BuildLog
from imagetiers.ccache.stats_log import Hits, read_stats_log
from imagetiers.config.layout import Layout, Volume, parse_volume
from imagetiers.config.model import Secret, Trust
from imagetiers.config.quantities import parse_duration
from imagetiers.inputs.repository import load_repository
from imagetiers.operations.ccache_stats import bucket_lines
from imagetiers.planning.commands import build_builder, build_image, compile_container, max_jobs, verify_container
from imagetiers.planning.containers import BindMount, BuildImage, Container, VolumeMount, through_volume
from imagetiers.planning.decide import TierState
from imagetiers.planning.make import make_plan
from imagetiers.planning.observed import ImageInfo, ObservedState
from imagetiers.planning.plan import Plan
from imagetiers.report.status import status_table
from imagetiers.report.tables import plan_table
from imagetiers.stores.port import BucketSettings
from tests.conftest import HERE, Golden, statuses_of, tiers_of

REPO = HERE.parent
GIB = 1 << 30


@pytest.fixture
def plan() -> Plan:
    return make_plan(load_repository(Layout(HERE / "repos" / "tiny"), None), date(2026, 11, 21))


def shown(value: BuildImage | Container) -> str:
    if isinstance(value, BuildImage):
        return "\n  ".join(value.argv())
    return "\n  ".join(f"{name}: {getattr(value, name)}" for name in value.__slots__)


def test_commands(plan: Plan, golden: Golden) -> None:
    tier = plan.tiers["pytorch-clean"]
    assert tier.compile is not None
    wheels, ccache = Path("/checkout/wheels"), Path("/checkout/ccache")
    values: dict[str, BuildImage | Container] = {
        "build_builder": build_builder(tier.compile, tier, "linux/amd64", images={}),
        "build_image of a tier with wheels": build_image(tier, plan.pipeline, wheels, Trust(), images={}),
        "build_image of a child, without BuildKit's cache": build_image(
            plan.tiers["arr-base"],
            plan.pipeline,
            None,
            Trust(trusted=False, branch="pr-7"),
            images={"pytorch-clean": "host/tiny/pytorch-clean@sha256:0"},
            no_cache=True,
        ),
        "build_image with an agent, a key and the host's network": build_image(
            replace(plan.tiers["arr-base"], config=replace(plan.tiers["arr-base"].config, network="host")),
            plan.pipeline,
            None,
            Trust(),
            images={"pytorch-clean": plan.tiers["pytorch-clean"].ref},
            secrets=(Secret("default", ssh="default"), Secret("git", ssh="keys/id"), Secret("token", env="A_TOKEN")),
        ),
        "compile_container": compile_container(
            tier.compile, user=(1000, 1000), jobs=2, room=6 << 30, ccache=ccache, wheels=wheels, checkout="0123abcd"
        ),
        "compile_container with secrets": compile_container(
            tier.compile,
            user=(1000, 1000),
            jobs=2,
            room=6 << 30,
            ccache=ccache,
            wheels=wheels,
            checkout="0123abcd",
            secrets=2,
        ),
        "compile_container of other outputs": compile_container(
            replace(tier.compile, config=replace(tier.compile.config, outputs=("bin/*",))),
            user=(1000, 1000),
            jobs=2,
            room=6 << 30,
            ccache=ccache,
            wheels=wheels,
            outputs=wheels / "outputs",
            checkout="0123abcd",
        ),
        "compile_container without a cache": compile_container(
            replace(tier.compile, config=replace(tier.compile.config, outputs=("bin/*",), ccache=None)),
            user=(1000, 1000),
            jobs=2,
            room=6 << 30,
            ccache=ccache,
            wheels=wheels,
            outputs=wheels / "outputs",
            checkout="0123abcd",
        ),
        "verify_container": verify_container(plan.tiers["arr-base"], "0a1b"),
    }

    golden("".join(f"{name}\n  {shown(value)}\n\n" for name, value in values.items()), HERE / "golden" / "commands.txt")


@pytest.mark.parametrize("variant", [None, "a100", "cpu", "cuda", "quickstart", "slim-runner"])
def test_the_repositorys_plan(variant: str | None, golden: Golden) -> None:
    plan = make_plan(load_repository(Layout(REPO), variant), date(2026, 11, 21))
    lines = []
    for tier in plan.tiers.values():
        lines += [f"{tier.name}", f"  tags {tier.tags} target {tier.target}"]
        lines += [f"  {name}={value}" for name, value in sorted(tier.args.items()) if name != "PARENT"]
        lines += [
            f"  stages {[name for name, _ in tier.key_document.stages]}",
            f"  bases {dict(tier.key_document.bases)}",
        ]
        lines += [f"  file {file.path}" for file in tier.files]
        if tier.compile is not None:
            lines += [f"  compile stages {[name for name, _ in tier.compile.key_document.stages]}"]
            lines += [f"  compile namespace {tier.compile.namespace}"]
            lines += [f"  compile file {file.path}" for file in tier.compile.files]
        lines += [f"  verify {name} {expected}" for name, _, expected in tier.verify.scripts]

    golden("\n".join(lines) + "\n", HERE / "golden" / "plans" / f"{variant or 'default'}.txt")


def test_secrets_are_named_and_never_written_out() -> None:
    build = BuildImage(
        tags=("a:b",), target=None, platform="linux/amd64", args={}, labels={},
        secrets=(Secret("token", env="THE_TOKEN"), Secret("key", file="id_rsa")),
    )  # fmt: skip

    assert [word for word in build.argv() if "secret" in word] == [
        "--secret=id=token,env=THE_TOKEN",
        "--secret=id=key,src=id_rsa",
    ]


def test_what_lies_on_a_volume_is_mounted_by_its_name() -> None:
    volume = parse_volume("imagetiers:/imagetiers")
    assert volume == Volume("imagetiers", Path("/imagetiers"))
    elsewhere = BindMount(Path("/other"), "/other", read_only=True)
    container = Container(
        name="c", image="i", argv=("x",), env={"A": "/ccache", "B": "/wheels/log", "C": "/wheelsaw"},
        mounts=(BindMount(volume.path / "ccache/n", "/ccache"), BindMount(volume.path / "wheels/k", "/wheels"), elsewhere),
    )  # fmt: skip

    folders = through_volume(container, volume, subpaths=True)
    assert folders.mounts == (
        VolumeMount("imagetiers", "/ccache", "ccache/n"), VolumeMount("imagetiers", "/wheels", "wheels/k"), elsewhere,
    )  # fmt: skip
    assert folders.env == container.env

    whole = through_volume(container, volume, subpaths=False)
    assert whole.mounts == (elsewhere, VolumeMount("imagetiers", "/imagetiers"))
    assert whole.env == {"A": "/imagetiers/ccache/n", "B": "/imagetiers/wheels/k/log", "C": "/wheelsaw"}


@pytest.mark.parametrize("text", ["/imagetiers", "name:relative", "a:/b:/c", ":/b", "a b:/c"])
def test_a_volume_must_have_a_name_and_a_path(text: str) -> None:
    with pytest.raises(ValueError, match=re.escape(text)):
        parse_volume(text)


@pytest.mark.parametrize(("text", "seconds"), [("90s", 90), ("45m", 2700), ("3h30m", 12_600), ("1h1m1s", 3661)])
def test_durations(text: str, seconds: int) -> None:
    assert parse_duration(text) == seconds


@pytest.mark.parametrize("text", ["", "5", "1 h", "1m1h", "h", "-1s"])
def test_what_is_no_duration(text: str) -> None:
    with pytest.raises(ValueError, match=f"^{re.escape(text)}$"):
        parse_duration(text)


@pytest.mark.parametrize(
    ("cpus", "memory", "job", "expected"),
    [
        (32, 32 * GIB, int(5.5 * GIB), 5),  # Cloud Build's largest default machine, flash-attention
        (2, 24 * GIB, GIB, 2),
        (64, 8 * GIB, GIB, 7),
        (8, GIB, 4 * GIB, 1),
        (96, 1024 * GIB, int(5.5 * GIB), 96),
    ],
)
def test_max_jobs(cpus: int, memory: int, job: int, expected: int) -> None:
    assert max_jobs(cpus, memory, job) == expected


@pytest.mark.parametrize(
    ("known", "expected"),
    [
        (0, 5),
        (GIB, 10),  # twice as many as the guess says, not the 28 that would fit
        (4 * GIB, 7),
        (8 * GIB, 5),  # never fewer: leases see to it
    ],
)
def test_what_is_known_lets_more_jobs_run(known: int, expected: int) -> None:
    assert max_jobs(32, 32 * GIB, int(5.5 * GIB), known) == expected


def image(plan: Plan, tier: str, **changes: object) -> ImageInfo:
    planned = plan.tiers[tier]
    values: dict[str, object] = {
        "id": f"sha256:{tier}", "refs": (planned.ref, *planned.tags), "pipeline": "tiny", "variant": "", "tier": tier,
        "key": planned.key, "created": 1000, "size": 80_000_000, "key_document": planned.key_document.json(),
        "trust": "trusted", **changes,
    }  # fmt: skip
    return ImageInfo(**values)  # type: ignore[arg-type]


def seen(*images: ImageInfo, **more: object) -> ObservedState:
    return ObservedState(images={ref: image for image in images for ref in image.refs}, **more)  # type: ignore[arg-type]


def test_decisions(plan: Plan) -> None:
    nothing = tiers_of(plan, seen())
    assert [d.state for d in nothing] == [TierState.BUILD] * 3
    assert nothing[0].runs == ("compile:pytorch-clean", "image:pytorch-clean", "verify:pytorch-clean")

    base = image(plan, "arr-base")
    check = plan.tiers["arr-base"].verify.check
    one = tiers_of(plan, seen(base, verdicts=frozenset({(base.id, check)})))
    assert (one[1].state, one[1].runs) == (TierState.FOUND_LOCALLY, ())

    moved = image(plan, "arr-base", key="f" * 64)
    assert tiers_of(plan, seen(moved))[1].state is TierState.BUILD, (
        "a reference by key that holds another key is no find"
    )

    down = tiers_of(plan, seen(unknown="docker: down"))
    assert {d.state for d in down} == {TierState.UNKNOWN}
    assert {d.runs for d in down} == {()}


def test_tables(plan: Plan, golden: Golden) -> None:
    before = plan.tiers["arr-training"].key_document.json().replace("for arr-training", "").replace('"644"', '"755"')
    key = hashlib.sha256(before.encode()).hexdigest()
    older = image(plan, "arr-training", refs=("tiny/arr-training:old",), key=key, key_document=before)
    base = image(plan, "arr-base", size=81_500_000)
    now = seen(
        image(plan, "pytorch-clean"), base, older, verdicts=frozenset({(base.id, plan.tiers["arr-base"].verify.check)})
    )
    console = Console(width=150, record=True, force_terminal=False, highlight=False, file=Path("/dev/null").open("w"))  # noqa: SIM115
    for table in (
        plan_table(plan, tiers_of(plan, now)),
        status_table(plan, now, statuses_of(plan, now), 8200, {"pytorch-clean": "compiled in 4 s, 0 % hits"}),
    ):
        console.print(table, crop=False)
    console.file.close()

    golden(
        "\n".join(line.rstrip() for line in console.export_text().splitlines()) + "\n", HERE / "golden" / "tables.txt"
    )


def test_hits() -> None:
    text = (
        "# a.cpp\ncache_miss\ndirect_cache_miss\npreprocessed_cache_miss\nlocal_storage_miss\n"
        "# b.cpp\ndirect_cache_hit\nlocal_storage_hit\n# c.cpp\ndirect_cache_miss\npreprocessed_cache_hit\n"
        "# conftest.c\ncalled_for_link\n# \nno_input_file\n"
    )

    assert read_stats_log(text) == Hits(direct=1, preprocessed=1, misses=1, other=2)
    assert str(read_stats_log(text)) == "2 of 3 compiler calls were hits (66.7 %)"
    assert read_stats_log("").rate == 0.0
    assert str(read_stats_log("# conftest.c\ncalled_for_link\n")) == "no compiler was called through ccache"


class Bar:
    def __init__(self) -> None:
        self.seen: list[tuple[int, int, str]] = []

    def update(self, done: int, total: int, note: str = "") -> None:
        self.seen.append((done, total, note))


def test_a_log_moves_the_bar_and_finds_the_first_error(tmp_path: Path) -> None:
    bar = Bar()
    lines = [
        "-- The C compiler identification is GNU 14.2.0",
        "[1/3] Building CXX object c10/CMakeFiles/c10.dir/core/Allocator.cpp.o",
        "FAILED: c10/CMakeFiles/c10.dir/core/Bad.cpp.o ",
        "/src/Bad.cpp:1:1: error: expected unqualified-id",
        "ninja: build stopped: subcommand failed.",
    ]
    with BuildLog(tmp_path / "logs" / "x.log", bar, now=lambda: 0.0) as log:
        for line in lines:
            log.take(line)
    problem = log.failure("compile:x", "the compile step ended with exit code 1")

    assert bar.seen == [(1, 3, "Allocator.cpp.o")]
    assert problem.what.splitlines()[:3] == [
        "the compile step ended with exit code 1; the first error:",
        "    FAILED: c10/CMakeFiles/c10.dir/core/Bad.cpp.o ",
        "    /src/Bad.cpp:1:1: error: expected unqualified-id",
    ]
    assert log.path.read_text().splitlines() == lines


def test_a_log_tells_how_long_each_part_took(tmp_path: Path) -> None:
    lines = ["hello", "== configure", "-- found", "== compile torch", "[1/1] a.o", "== configure", "== package "]
    clock = iter(range(100))
    with BuildLog(tmp_path / "x.log", Bar(), now=lambda: float(next(clock))) as log:
        for line in lines:
            log.take(line)
    # The clock moves at each heading: once before the first, once per part.
    assert log.parts == {"configure": 2.0, "compile torch": 1.0, "package": 1.0}
    assert log.path.read_text().splitlines() == lines


def test_a_buckets_own_settings() -> None:
    fine = BucketSettings(soft_delete=0, versioning=False, uniform_access=True, lifecycle=())
    rule = '{"action": {"type": "Delete"}, "condition": {"age": 30, "matchesPrefix": ["p/untrusted/"]}}'
    careful = BucketSettings(0, versioning=False, uniform_access=True, lifecycle=(rule,))
    careless = BucketSettings(604_800, versioning=True, uniform_access=False, lifecycle=(rule.replace("un", ""),))

    assert bucket_lines(fine) == bucket_lines(careful) == ["  its settings are right for a cache"]
    assert [line.split()[:3] for line in bucket_lines(careless)] == [
        ["soft", "delete", "keeps"],
        ["versioning", "keeps", "every"],
        ["objects", "have", "access"],
        ["a", "lifecycle", "rule"],
    ]
