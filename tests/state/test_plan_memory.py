"""A remembered plan is the plan: after any edits, one that is remembered and one that is read are the same."""

from __future__ import annotations

import io
import os
import pickle
import shutil
import stat
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from imagetiers.config.layout import Layout
from imagetiers.config.loader import load_config
from imagetiers.errors import PipelineError
from imagetiers.inputs.repository import load_repository
from imagetiers.planning.make import make_plan
from imagetiers.planning.plan import Plan, Recipe
from imagetiers.repository_file import Reads
from imagetiers.state import plan_memory, sealed
from imagetiers.state.plan_memory import Remembered, recall, remember
from tests.conftest import HERE
from tests.many.repository import make_repository, remember_plan

DAY = datetime.now(tz=UTC).date()


def read(layout: Layout, variant: str | None = None) -> tuple[Remembered, Reads]:
    reads = Reads()
    repository = load_repository(layout, variant, reads)
    return Remembered(make_plan(repository, DAY), repository.variants), reads


def without_contents(plan: Plan) -> Plan:
    packed, recipes = plan_memory._pickled(Remembered(plan, ()))
    made = plan_memory._Plans(io.BytesIO(packed), plan_memory._Recipes(recipes)).load()
    assert isinstance(made, Remembered)
    return made.plan


def recipes_of(plan: Plan) -> list[Recipe]:
    return [tier.recipe() for tier in plan.tiers.values()]


def plan_of(layout: Layout, variant: str | None = None) -> Plan | None:
    found = recall(layout, variant, DAY)
    return None if found is None else found.plan


def memory_of(layout: Layout) -> Path:
    (path,) = (layout.state / "plans").iterdir()
    return path


@pytest.fixture
def four(tmp_path: Path) -> Layout:
    return make_repository(tmp_path / "four", 4, "diamonds")


def test_it_is_the_plan_without_the_contents_of_its_files(tiny: Layout) -> None:
    plan = remember_plan(tiny)
    found = recall(tiny, None, DAY)

    assert found is not None
    assert without_contents(plan) == without_contents(found.plan)
    assert recipes_of(without_contents(plan)) == recipes_of(found.plan)
    assert found.plan.document() == plan.document()
    assert all(file.content is None for tier in found.plan.tiers.values() for file in tier.files if not file.link)


@pytest.mark.parametrize("variant", [None, *load_config(Layout(HERE.parent), None).variants])
def test_each_variant_of_this_repository_is_remembered(variant: str | None, tmp_path: Path) -> None:
    """A class that is new in a plan, and that the memory does not know, would cost it without a word."""
    root = tmp_path / "copy"
    shutil.copytree(HERE.parent / "images", root / "images", symlinks=True)
    for name in ("pipeline.yaml", "pipeline.lock.yaml"):
        shutil.copy(HERE.parent / name, root / name)
    plan = remember_plan(Layout(root), variant)
    found = plan_of(Layout(root), variant)

    assert found is not None
    assert found == without_contents(plan)
    assert recipes_of(found) == recipes_of(without_contents(plan))


def test_nothing_is_remembered_of_what_was_changed_a_moment_ago(four: Layout) -> None:
    found, reads = read(four)
    remember(four, None, DAY, found, reads)

    assert recall(four, None, DAY) is None
    assert not four.work.exists()


# ---- any edits ----

TEXTS = (
    "",
    "data/\n",
    "a\n",
    "b\n",
    "# a comment\n",
    "ARG BASE\nFROM ${BASE}\n",
    "ARG PARENT\nFROM ${PARENT}\nCOPY data /x/\n",
)


def places(root: Path) -> list[Path]:
    return [path for path in sorted(root.rglob("*")) if ".imagetiers" not in path.parts and path.name != "dodo.py"]


@dataclass(frozen=True)
class Place:
    """Where an edit is made, another file or folder that it may need, and a text."""

    path: Path
    other: Path
    text: str

    @property
    def root(self) -> Path:
        return next(parent for parent in self.path.parents if (parent / "dodo.py").exists())


def write(at: Place) -> None:
    at.path.write_text(at.text)


def write_as_many_bytes(at: Place) -> None:
    """Change a file so that its size and the time of its last change stay what they were."""
    before = at.path.stat()
    data = at.path.read_bytes()
    at.path.write_bytes(data[:-1] + (b"#" if data[-1:] != b"#" else b"\n"))
    os.utime(at.path, ns=(before.st_atime_ns, before.st_mtime_ns))


def rename(at: Place) -> None:
    at.path.rename(at.path.with_name(at.path.name + "-renamed"))


def put_in_place(at: Place) -> None:
    """Replace a file by another of the same size and time, as `cp -p` and an editor's rename do."""
    before = at.path.stat()
    new = at.path.with_name("new")
    new.write_bytes(at.other.read_bytes()[: before.st_size].ljust(before.st_size, b"\n"))
    os.utime(new, ns=(before.st_atime_ns, before.st_mtime_ns))
    new.replace(at.path)


def add(at: Place) -> None:
    (at.path if at.path.is_dir() else at.path.parent).joinpath("added").write_text(at.text)


def add_a_check(at: Place) -> None:
    (at.path if at.path.is_dir() else at.path.parent).joinpath("verify.py").write_text(at.text)


def remove(at: Place) -> None:
    if at.path.is_dir() and not at.path.is_symlink():
        shutil.rmtree(at.path)
    else:
        at.path.unlink()


def link(at: Place) -> None:
    remove(at)
    at.path.symlink_to(os.path.relpath(at.other, at.path.parent))


def change_mode(at: Place) -> None:
    at.path.chmod(at.path.stat().st_mode ^ stat.S_IXUSR if at.path.is_file() else 0o755)


def replace_folder(at: Place) -> None:
    folder = at.path if at.path.is_dir() else at.path.parent
    aside = folder.with_name("aside")
    shutil.copytree(folder, aside, symlinks=True)
    (aside / "0").write_text(at.text)
    shutil.rmtree(folder)
    aside.rename(folder)


def pin(at: Place) -> None:
    digest = "0123456789abcdef"[len(at.text) % 16] * 64
    (at.root / "pipeline.lock.yaml").write_text(f"images: {{'debian:trixie-slim': 'sha256:{digest}'}}\n")


def edit_pipeline(at: Place) -> None:
    file = at.root / "pipeline.yaml"
    file.write_text(
        file.read_text().replace("1GB", "2GB") if "1GB" in file.read_text() else file.read_text() + "# more\n"
    )


def touch(at: Place) -> None:
    os.utime(at.path)


EDITS = (
    write, write_as_many_bytes, rename, put_in_place, add, add_a_check, remove, link, change_mode, replace_folder, pin,
    edit_pipeline, touch,
)  # fmt: skip

Edit = tuple[Callable[[Place], None], int, int, str]


@st.composite
def edits(draw: st.DrawFn) -> Edit:
    return (
        draw(st.sampled_from(EDITS)),
        draw(st.integers(0, 10_000)),
        draw(st.integers(0, 10_000)),
        draw(st.sampled_from(TEXTS)),
    )


@settings(max_examples=50)
@given(st.lists(st.lists(edits(), max_size=3), min_size=1, max_size=4))
def test_after_any_edits_it_is_the_plan_or_it_is_not_there(
    tmp_path_factory: pytest.TempPathFactory, rounds: list[list[Edit]]
) -> None:
    layout = make_repository(tmp_path_factory.mktemp("any") / "four", 4, "diamonds")
    remember_plan(layout)
    for made in rounds:
        for change, number, other, text in made:
            among = places(layout.root)
            if not among:
                continue
            try:
                change(Place(among[number % len(among)], among[other % len(among)], text))
            except OSError:  # a folder where the edit is one of a file, or a name that is taken
                continue
        found = plan_of(layout)
        try:
            fresh, _ = read(layout)
        except PipelineError:
            assert found is None
            return
        assert found is None or without_contents(found) == without_contents(fresh.plan)
        assert made or found is not None
        if found is None:
            remember_plan(layout)


@pytest.mark.parametrize("change", [edit for edit in EDITS if edit is not touch], ids=lambda edit: edit.__name__)
def test_each_edit_is_noticed(change: Callable[[Place], None], four: Layout) -> None:
    remember_plan(four)
    assert plan_of(four) is not None
    change(Place(four.root / "images/t00001/data/3", four.root / "images/t00001/data/4", "b\n"))

    assert plan_of(four) is None


# ---- what else it is bound to ----


def test_another_variant_and_another_checkout_have_their_own(tiny: Layout, tmp_path: Path) -> None:
    remember_plan(tiny)
    assert recall(tiny, "shouting", DAY) is None
    base, variant = remember_plan(tiny), remember_plan(tiny, "shouting")
    assert base.document() != variant.document()
    assert plan_of(tiny, "shouting") == without_contents(variant)
    moved = Layout(tiny.root.rename(tmp_path / "moved"))

    assert recall(moved, None, DAY) is None


def test_variables_are_part_of_what_a_plan_is_bound_to(tiny: Layout, monkeypatch: pytest.MonkeyPatch) -> None:
    text = tiny.pipeline.read_text().replace("GREETING: hello", "GREETING: $(var.greeting)", 1)
    tiny.pipeline.write_text(
        text.replace("tiers:", "variables: {greeting: {default: hello, env: TEST_WORD}}\ntiers:", 1)
    )
    monkeypatch.setenv("TEST_WORD", "from-a-shell")
    plan = remember_plan(tiny)
    assert plan.tiers["pytorch-clean"].config.args == {"GREETING": "from-a-shell"}
    assert plan_of(tiny) is not None

    assert recall(tiny, None, DAY, {"greeting": "hello"}) is None
    monkeypatch.setenv("TEST_WORD", "another")
    assert plan_of(tiny) is None
    monkeypatch.setenv("TEST_WORD", "from-a-shell")
    assert plan_of(tiny) is not None


def test_what_is_in_the_way_of_the_cache_is_noticed(four: Layout) -> None:
    four.pipeline.write_text(four.pipeline.read_text() + "cache: kept/cache\n")
    remember_plan(four)
    kept = four.root / "kept"
    (kept / "cache").mkdir(parents=True)
    assert plan_of(four) is not None
    shutil.rmtree(kept)
    kept.touch()

    assert plan_of(four) is None


def test_a_tier_that_is_refreshed_has_its_day(four: Layout) -> None:
    remember_plan(four)
    assert recall(four, None, date(2031, 1, 1)) is not None
    pipeline = four.root / "pipeline.yaml"
    pipeline.write_text(pipeline.read_text().replace("budget:", "refresh: monthly, budget:", 1))
    remember_plan(four)

    assert recall(four, None, DAY) is not None
    assert recall(four, None, DAY + timedelta(1)) is None


def test_the_code_that_makes_plans_is_part_of_it(four: Layout, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "package"
    (package / "config").mkdir(parents=True)
    code = package / "config/loader.py"
    code.write_text("x = 1\n")
    monkeypatch.setattr(plan_memory, "_PACKAGE", package)
    remember_plan(four)
    assert plan_of(four) is not None
    code.write_text("x = 2\n")

    assert plan_of(four) is None


# ---- what lies there may be anything ----


def test_a_damaged_one_is_not_there(four: Layout) -> None:
    remember_plan(four)
    path = memory_of(four)
    whole = path.read_bytes()
    for size in (0, 5, 30, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:size])
        assert plan_of(four) is None
    for at in range(0, len(whole), len(whole) // 40):
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
        assert plan_of(four) is None
    path.write_bytes(whole)
    assert plan_of(four) is not None


def test_one_that_others_may_write_is_not_taken(four: Layout) -> None:
    remember_plan(four)
    path = memory_of(four)
    path.chmod(0o660)
    assert plan_of(four) is None
    path.chmod(0o600)
    assert plan_of(four) is not None
    target = path.rename(path.with_name("elsewhere"))
    path.symlink_to(target)
    assert plan_of(four) is None


class Wicked:
    def __reduce__(self) -> tuple[object, ...]:
        return os.mkdir, ("made-by-a-pickle",)


def test_no_other_class_is_made_of_it(four: Layout, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    remember_plan(four)
    path = memory_of(four)
    header, plan, recipes = sealed.unseal(path, plan_memory._MAGIC, 3)
    wicked = pickle.dumps(Wicked())
    for sections in ((wicked, plan, recipes), (header, wicked, recipes)):
        sealed.seal(path, plan_memory._MAGIC, sections)
        assert plan_of(four) is None
    for spoiled in (zlib.compress(wicked), zlib.compress(recipes), b"no zlib"):
        sealed.seal(path, plan_memory._MAGIC, (header, plan, spoiled))
        found = plan_of(four)
        assert found is not None
        with pytest.raises(PipelineError, match="cannot be read"):
            recipes_of(found)
    sealed.seal(path, plan_memory._MAGIC, (header, plan, recipes))
    assert plan_of(four) is not None

    assert not (tmp_path / "made-by-a-pickle").exists()


def test_where_nothing_can_be_written_nothing_is_remembered(four: Layout) -> None:
    four.work.mkdir()
    four.state.write_text("a file where a folder should be")

    remember_plan(four)

    assert plan_of(four) is None


def test_a_writer_that_is_killed_leaves_the_old_one(four: Layout) -> None:
    before = remember_plan(four)
    path = memory_of(four)
    (path.parent / ".0123456789abcdef.part").write_bytes(b"half of it")

    assert plan_of(four) == without_contents(before)
