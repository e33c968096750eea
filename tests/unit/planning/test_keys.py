"""Any change of any input changes exactly the keys downstream of it; nothing else changes any key."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from datetime import date
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from imagetiers.config.layout import Layout
from imagetiers.config.model import Refresh
from imagetiers.inputs.context import context_tar
from imagetiers.inputs.repository import load_repository
from imagetiers.planning.decide import run_before
from imagetiers.planning.ingredients import refresh_epoch
from imagetiers.planning.keys import diff
from imagetiers.planning.make import make_plan
from imagetiers.planning.plan import Plan
from tests.conftest import HERE, edit

DAY = date(2026, 11, 21)
ALL = ("compile", "pytorch-clean", "arr-base", "arr-training")
TINY = HERE / "repos" / "tiny"


def plan_of(layout: Layout, variant: str | None = None, today: date = DAY) -> Plan:
    return make_plan(load_repository(layout, variant), today)


def keys_of(plan: Plan) -> dict[str, str]:
    step = plan.tiers["pytorch-clean"].compile
    assert step is not None
    return {"compile": step.key, **{name: tier.key for name, tier in plan.tiers.items()}}


BEFORE = keys_of(plan_of(Layout(TINY)))


def changed(layout: Layout) -> tuple[str, ...]:
    after = keys_of(plan_of(layout))
    return tuple(name for name in ALL if after[name] != BEFORE[name])


def write(path: str, text: str) -> Callable[[Layout], object]:
    return lambda layout: (layout.root / path).write_text(text)


DOCKERFILE = "images/pytorch-clean/Dockerfile"
IMAGES = ("pytorch-clean", "arr-base", "arr-training")
CHANGES: dict[str, tuple[Callable[[Layout], object], tuple[str, ...]]] = {
    "a compiled file": (write("images/pytorch-clean/source.txt", "seven"), ALL),
    "the compile script": (edit("images/pytorch-clean/make-wheel", "set -eu", "set -e"), ALL),
    "x-bit": (lambda layout: (layout.root / "images/pytorch-clean/source.txt").chmod(0o755), ALL),
    "the compile command": (edit("pipeline.yaml", "run: [sh, /src", "run: [sh, -x, /src"), ALL),
    "an argument of the compile stage": (edit("pipeline.yaml", "GREETING: hello", "GREETING: bye"), ALL),
    "an instruction of the compile stage": (edit(DOCKERFILE, "ENV GREETING", "ENV A=b GREETING"), ALL),
    "the base": (edit("pipeline.yaml", "trixie-slim", "bookworm-slim"), ALL),
    "the base's pin": (write("pipeline.lock.yaml", f"images: {{'debian:trixie-slim': 'sha256:{'a' * 64}'}}"), ALL),
    "the platform": (edit("pipeline.yaml", "name: tiny", "name: tiny\nplatform: linux/arm64"), ALL),
    "an unused file of the manifest": (
        lambda layout: [
            write("images/pytorch-clean/unused", "x")(layout),
            edit("images/pytorch-clean/.image-manifest", "motd", "motd\nunused")(layout),
        ],
        (),
    ),
    "a file of the runtime stage": (write("images/pytorch-clean/motd", "hi"), IMAGES),
    "an instruction of the runtime stage": (edit(DOCKERFILE, "USER 10001", "USER 10002"), IMAGES),
    "the target": (edit("pipeline.yaml", "verify: {params", "target: runtime\n    verify: {params"), ()),
    "a secret's id": (edit("pipeline.yaml", "verify: {params", "secrets: {t: {env: A}}\n    verify: {params"), ALL),
    "refresh": (edit("pipeline.yaml", "arr-base: {parent", "arr-base: {refresh: weekly, parent"), ("arr-base", "arr-training")),
    "a child's file": (write("images/arr-base/config/arr-base.txt", "x"), ("arr-base", "arr-training")),
    "a child's new file": (write("images/arr-base/config/new", "x"), ("arr-base", "arr-training")),
    "the last tier's file": (write("images/arr-training/config/arr-training.txt", "x"), ("arr-training",)),
    "the stage that the wheels replace": (edit(DOCKERFILE, "RUN sh /src/make-wheel", "RUN sh -x /src/make-wheel"), ()),
    "a comment in a Dockerfile": (edit(DOCKERFILE, "ARG BASE", "# why\nARG BASE"), ()),
    "a comment in a manifest": (edit("images/pytorch-clean/.image-manifest", "# every", "# Every"), ()),
    "a comment in the pipeline": (edit("pipeline.yaml", "version: 1", "version: 1  # one"), ()),
    "verify.py": (write("images/arr-base/verify.py", "echo ok"), ()),
    "expectations": (edit("pipeline.yaml", "without: [gcc]", "without: [gcc, cc]"), ()),
    "the friendly tag": (edit("pipeline.yaml", "arr-base: {parent", "arr-base: {tag: '9', parent"), ()),
    "the memory of a job": (edit("pipeline.yaml", "{stage: builder", "{job_memory: 2G, stage: builder"), ()),
    "the memory of all jobs": (edit("pipeline.yaml", "{stage: builder", "{memory: 8G, stage: builder"), ()),
    "the ccache's size": (edit("pipeline.yaml", "100M", "200M"), ()),
    "the place of the cache": (edit("pipeline.yaml", "name: tiny", "name: tiny\ncache: gs://bucket/p"), ()),
    "the registry": (edit("pipeline.yaml", "name: tiny", "name: tiny\nregistry: localhost/a"), ()),
    "the registry's channels": (edit("pipeline.yaml", "name: tiny", "name: tiny\nregistry: b\nchannels: localhost/c"), ()),
    "the pipeline's name": (edit("pipeline.yaml", "name: tiny", "name: other"), ()),
    "an unlisted file": (write("images/pytorch-clean/README", "x"), ()),
    "litter": (
        write("images/arr-base/config/.DS_Store", "x"),
        (),
    ),
    "another variant": (edit("pipeline.yaml", "GREETING: HELLO", "GREETING: HO"), ()),
    "the order of keys": (
        edit("pipeline.yaml", 'bases: {BASE: "debian:trixie-slim"}\n    args: {GREETING: hello}',
             'args: {GREETING: hello}\n    bases: {BASE: "debian:trixie-slim"}'),
        (),
    ),
}  # fmt: skip


@pytest.mark.parametrize(("change", "expected"), CHANGES.values(), ids=CHANGES.keys())
def test_a_change_reaches_exactly_the_keys_downstream(
    change: Callable[[Layout], object], expected: tuple[str, ...], tiny: Layout
) -> None:
    change(tiny)

    assert changed(tiny) == expected


SECRET = "secrets: {token: {env: TOKEN}}"


@pytest.mark.parametrize(
    ("now", "expected"),
    [
        ("secrets: {token: {env: OTHER}}", ()),
        ("secrets: {token: {file: token.txt}}", ()),
        ("secrets: {another: {env: TOKEN}}", ALL),
        ("secrets: {token: {env: TOKEN}, another: {env: OTHER}}", ALL),
    ],
)
def test_where_a_secret_lies_is_in_no_key_but_its_id_is(now: str, expected: tuple[str, ...], tiny: Layout) -> None:
    edit("pipeline.yaml", "verify: {params", f"{SECRET}\n    verify: {{params")(tiny)
    before = keys_of(plan_of(tiny))
    assert before != BEFORE
    edit("pipeline.yaml", SECRET, now)(tiny)
    after = keys_of(plan_of(tiny))

    assert tuple(name for name in ALL if after[name] != before[name]) == expected


@settings(max_examples=25, deadline=None)
@given(
    tier=st.sampled_from(["pytorch-clean", "arr-base", "arr-training"]),
    content=st.binary(max_size=200),
    mtime=st.integers(0, 2**31),
    mask=st.sampled_from([0o000, 0o022, 0o077]),
)
def test_keys_follow_content_and_nothing_else(tier: str, content: bytes, mtime: int, mask: int) -> None:
    file = {
        "pytorch-clean": "images/pytorch-clean/motd",
        "arr-base": "images/arr-base/config/arr-base.txt",
        "arr-training": "images/arr-training/config/arr-training.txt",
    }[tier]
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder) / "elsewhere"
        shutil.copytree(TINY, root)
        for path in root.rglob("*"):
            if path.is_file():
                executable = path.stat().st_mode & 0o100
                path.chmod((0o666 & ~mask) | executable)
                os.utime(path, (mtime, mtime))

        assert changed(Layout(root)) == ()

        same = (root / file).read_bytes() == content
        (root / file).write_bytes(content)
        downstream = ALL[ALL.index(tier) :]

        assert changed(Layout(root)) == (() if same else downstream)


def test_keys_are_the_same_in_another_process_with_another_locale_clock_and_folder(tiny: Layout) -> None:
    code = (
        "from pathlib import Path; from tests.unit.planning.test_keys import *\n"
        f"print(keys_of(plan_of(Layout(Path({str(tiny.root)!r})))))"
    )
    env = {"PATH": os.environ["PATH"], "TZ": "Asia/Tokyo", "LC_ALL": "C", "PYTHONHASHSEED": "7", "USER": "nobody"}
    env["PYTHONPATH"] = str(HERE.parent)

    out = subprocess.run(
        [sys.executable, "-c", code], env=env, cwd="/", capture_output=True, text=True, check=True
    ).stdout

    assert out.strip() == str(BEFORE)


def test_keys_are_pinned(golden: Callable[[str, Path], None]) -> None:
    """A changed key here rebuilds everybody's images: raise keys.RECIPE if and only if that is meant."""
    plan = plan_of(Layout(TINY))
    texts = [tier.key_document.json() for tier in plan.tiers.values()]

    golden("\n".join([*texts, *BEFORE.values(), ""]), HERE / "golden" / "keys.txt")


@pytest.mark.parametrize(
    ("refresh", "same_period", "next_period"),
    [
        (Refresh.DAILY, date(2026, 11, 21), date(2026, 11, 22)),
        (Refresh.WEEKLY, date(2026, 11, 22), date(2026, 11, 23)),
        (Refresh.MONTHLY, date(2026, 11, 30), date(2026, 12, 1)),
    ],
)
def test_refresh_changes_the_key_with_the_calendar(refresh: Refresh, same_period: date, next_period: date) -> None:
    assert refresh_epoch(refresh, DAY) == refresh_epoch(refresh, same_period)
    assert refresh_epoch(refresh, DAY) != refresh_epoch(refresh, next_period)


def test_the_year_of_a_week_is_the_weeks() -> None:
    assert refresh_epoch(Refresh.WEEKLY, date(2027, 1, 1)) == "2026-W53"


def test_a_diff_names_what_changed(tiny: Layout) -> None:
    before = plan_of(tiny).tiers["pytorch-clean"].key_document.content()
    for name in ("a compiled file", "a file of the runtime stage", "an instruction of the runtime stage", "the base"):
        CHANGES[name][0](tiny)
    after = plan_of(tiny).tiers["pytorch-clean"].key_document.content()

    assert [str(change) for change in diff(before, after)] == [
        "stage runtime changed",
        "base debian:bookworm-slim: none -> unpinned",
        "base debian:trixie-slim: unpinned -> none",
        "wheels changed",
        "motd edited",
    ]


def test_the_context_is_the_reading_that_was_hashed(tiny: Layout) -> None:
    plan = plan_of(tiny)
    tier = plan.tiers["pytorch-clean"]
    before = b"".join(context_tar(tier.files, tier.dockerfile))
    (tiny.root / "images/pytorch-clean/motd").write_text("edited while the build runs")

    assert b"".join(context_tar(tier.files, tier.dockerfile)) == before
    assert b"edited while" not in before
    assert plan_of(tiny).tiers["pytorch-clean"].key != tier.key


def test_the_context_is_the_same_whoever_reads_it(tiny: Layout) -> None:
    tier = plan_of(Layout(TINY)).tiers["pytorch-clean"]
    for path in tiny.root.rglob("*"):
        os.utime(path, (1, 1))
    again = plan_of(tiny).tiers["pytorch-clean"]

    assert b"".join(context_tar(again.files, again.dockerfile)) == b"".join(context_tar(tier.files, tier.dockerfile))


CHILD = """\
ARG PARENT
FROM ${PARENT}
COPY --from=ghcr.io/astral-sh/uv:0.5 /uv /bin/
COPY config/ /config/
"""


def test_a_child_may_take_from_outside_images_too(tiny: Layout) -> None:
    edit("pipeline.yaml", "arr-base: {parent", "arr-base: {bases: {UV: 'ghcr.io/astral-sh/uv:0.5'}, parent")(tiny)
    (tiny.root / "images/arr-base/Dockerfile").write_text(CHILD)
    before = plan_of(tiny).tiers["arr-base"]
    tiny.lock.write_text(f"images: {{'ghcr.io/astral-sh/uv:0.5': 'sha256:{'a' * 64}'}}")
    after = plan_of(tiny).tiers["arr-base"]

    assert before.key != after.key
    assert dict(after.key_document.bases) == {"ghcr.io/astral-sh/uv:0.5": f"sha256:{'a' * 64}"}
    assert f"COPY --from=ghcr.io/astral-sh/uv:0.5@sha256:{'a' * 64} /uv /bin/" in after.dockerfile.decode()


def test_what_compiles_in_the_parents_image_has_its_key(tiny: Layout) -> None:
    edit("pipeline.yaml", "arr-base: {parent", "arr-base: {compile: {stage: b, run: x}, parent")(tiny)
    dockerfile = tiny.tier("arr-base") / "Dockerfile"
    inside = "ARG PARENT\nFROM ${PARENT} AS b\nFROM b AS wheels\nFROM ${PARENT}\nCOPY --from=wheels /w /w\n"
    dockerfile.write_text(inside)
    before = plan_of(tiny).tiers
    assert before["arr-base"].compile is not None
    assert before["arr-base"].compile.key_document.parent == before["pytorch-clean"].key
    assert before["arr-base"].compile.args["PARENT"] == before["pytorch-clean"].ref
    assert b"FROM ${PARENT} AS b" in before["arr-base"].compile.dockerfile
    assert before["arr-base"].compile.namespace.endswith(".pytorch-clean")
    assert run_before(plan_of(tiny), "compile:arr-base") == ("image:pytorch-clean",)

    (tiny.tier("pytorch-clean") / "motd").write_text("good day\n")
    after = plan_of(tiny).tiers
    assert after["arr-base"].compile is not None
    assert after["arr-base"].compile.key != before["arr-base"].compile.key
    assert after["arr-base"].compile.namespace == before["arr-base"].compile.namespace

    dockerfile.write_text(inside.replace("FROM ${PARENT} AS b", "FROM scratch AS b"))
    apart = plan_of(tiny)
    assert apart.tiers["arr-base"].compile is not None
    assert apart.tiers["arr-base"].compile.key_document.parent is None
    assert run_before(apart, "compile:arr-base") == ()


def test_the_dockerfile_is_a_file_of_the_key_where_the_image_takes_it(tiny: Layout) -> None:
    dockerfile = tiny.root / "images/arr-base/Dockerfile"
    dockerfile.write_text("ARG PARENT\n# why\nFROM scratch AS unused\nFROM ${PARENT}\nCOPY . /config/\n")
    before = plan_of(tiny).tiers["arr-base"]

    assert "Dockerfile" in {path for path, _, _ in before.key_document.files}

    dockerfile.write_text(dockerfile.read_text().replace("# why\n", "# why not\n\n"))
    same = plan_of(tiny).tiers["arr-base"]
    assert (same.key, same.dockerfile) == (before.key, before.dockerfile)

    dockerfile.write_text(dockerfile.read_text().replace("AS unused", "AS other"))
    assert plan_of(tiny).tiers["arr-base"].key != before.key


def test_the_frontend_is_part_of_the_key(tiny: Layout) -> None:
    dockerfile = tiny.root / DOCKERFILE
    text = dockerfile.read_text()
    keys = {BEFORE["pytorch-clean"]}
    for digit in "ab":
        dockerfile.write_text(f"# syntax=docker/dockerfile:1@sha256:{digit * 64}\n{text}")
        tier = plan_of(tiny).tiers["pytorch-clean"]
        keys.add(tier.key)
        assert tier.dockerfile.decode().startswith(f"# syntax=docker/dockerfile:1@sha256:{digit * 64}\n")

    edit("pipeline.yaml", "bases: {", 'bases: {BUILDKIT_SYNTAX: "docker/dockerfile:1", ')(tiny)
    dockerfile.write_text(f"# syntax=docker/dockerfile:1\n{text}")
    keys.add(plan_of(tiny).tiers["pytorch-clean"].key)
    tiny.lock.write_text(f"images: {{'docker/dockerfile:1': 'sha256:{'c' * 64}'}}")
    pinned = plan_of(tiny).tiers["pytorch-clean"]

    assert pinned.dockerfile.decode().startswith(f"# syntax=docker/dockerfile:1@sha256:{'c' * 64}\n")
    assert len({*keys, pinned.key}) == 5


def test_flags_keep_their_words_apart(tiny: Layout) -> None:
    dockerfile = tiny.root / "images/arr-base/Dockerfile"
    keys = []
    for line in (
        "RUN --mount=type=cache,target=/x y",
        'RUN --mount=type=cache,target="/x y" y',
        "RUN <<A\nA",
        "RUN <<A\n\nA",
    ):
        dockerfile.write_text(f"ARG PARENT\nFROM ${{PARENT}}\nCOPY config/ /config/\n{line}\n")
        keys.append(plan_of(tiny).tiers["arr-base"].key)

    assert len(set(keys)) == 4


def test_a_platform_that_an_argument_gives_is_part_of_the_key(tiny: Layout) -> None:
    dockerfile = tiny.root / DOCKERFILE
    text = dockerfile.read_text().replace("FROM ${BASE} AS runtime", "FROM --platform=${P} ${BASE} AS runtime")
    dockerfile.write_text("ARG P=linux/amd64\n" + text)
    one = plan_of(tiny).tiers["pytorch-clean"]
    dockerfile.write_text("ARG P=linux/arm64\n" + text)
    other = plan_of(tiny).tiers["pytorch-clean"]

    assert one.key != other.key
    assert "FROM --platform=linux/arm64 debian:trixie-slim AS runtime" in other.dockerfile.decode()


def test_what_git_does_not_keep_is_neither_in_a_key_nor_sent(tiny: Layout) -> None:
    """Modes but for the owner's x-bit, empty folders, times."""

    def planned() -> tuple[str, bytes]:
        tier = make_plan(load_repository(tiny, None), DAY).tiers["arr-base"]
        return tier.key, b"".join(context_tar(tier.files, tier.dockerfile))

    before = planned()
    file = tiny.root / "images/arr-base/config/arr-base.txt"
    file.chmod(0o600)
    os.utime(file, (1, 1))
    file.parent.chmod(0o700)
    (file.parent / "empty").mkdir()
    assert planned() == before

    file.chmod(0o700)
    assert planned()[0] != before[0]
