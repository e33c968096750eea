"""doit gc on a machine that real operations have filled; the engine is a table, locks and files are real."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

from imagetiers.config.layout import Layout
from imagetiers.errors import EngineError, Problem
from imagetiers.operations.gc import RoomOptions, could_come_back, make_room
from imagetiers.operations.image import ensure_image
from imagetiers.operations.status import show_status
from imagetiers.planning.commands import compile_container
from imagetiers.planning.plan import Plan
from imagetiers.report.amounts import size_text
from imagetiers.session import Session
from tests.ccache.faults import Killed
from tests.conftest import HERE, Golden
from tests.operations.engine import Machine, ScriptedEngine, machine

SOURCE = "images/pytorch-clean/source.txt"
NOW = RoomOptions(max_age=0, keep=0)


@pytest.fixture
def here(tiny: Layout, tmp_path: Path) -> Machine:
    """A machine that has compiled and built twice, and changed the sources in between."""
    made = machine(tiny, tmp_path / "cache")
    build(made)
    (tiny.root / SOURCE).write_text("other words\n")
    build(made)
    made.console.lines.clear()
    return made


def build(here: Machine) -> None:
    here.compile()
    for name in ("pytorch-clean", "arr-base"):
        session = here.session
        ensure_image(session, session.plan.tiers[name])
    made = here.engine.byid
    here.engine.byid = {id_: replace(image, created=2000 + at) for at, (id_, image) in enumerate(made.items())}


def later(here: Machine) -> Session:
    """Return a session of many years later."""
    return replace(here.session, services=replace(here.services, now=lambda: 4e9))


def gc(here: Machine, options: RoomOptions = NOW) -> str:
    here.console.lines.clear()
    session = later(here)
    make_room(session, [session.plan], options)
    return here.said.replace(str(here.layout.root), "")


def wheels(here: Machine) -> set[str]:
    return {path.name for path in (here.layout.work / "wheels").iterdir()}


def test_the_ccache_of_a_line_of_compiles_stays_while_the_pipeline_has_it(here: Machine) -> None:
    other = here.layout.ccache("trusted.main.tiny.gone.linux-amd64.debian-ccache-4.14")
    other.mkdir()
    gc(here)
    assert [path.name for path in other.parent.iterdir()] != []
    assert not other.exists()


def wanted(here: Machine) -> set[str]:
    plan = here.session.plan
    return {plan.tiers[name].ref for name in ("pytorch-clean", "arr-base")} | {here.step.builder}


def test_what_is_said_and_what_goes(here: Machine, golden: Golden) -> None:
    shutil.rmtree(here.layout.work / "ccache")  # its bytes are zstd's, of one version or another
    before, kept = set(here.engine.refs), wheels(here)
    said = [gc(here, replace(NOW, dry_run=True))]
    assert set(here.engine.refs) == before
    assert wheels(here) == kept
    said.append(gc(here))
    assert set(here.engine.refs) == wanted(here)
    assert wheels(here) == {here.step.key}
    layers = {chain for id_ in here.engine.refs.values() for chain, _ in here.engine.layers_of[id_]}
    assert set(here.engine.cached) == layers  # BuildKit keeps what images have, and nothing else
    said.append(gc(here))
    assert said[-1].endswith("\n0 B came back")
    text = "\n\n".join(said)
    for number, ref in enumerate(sorted(before - wanted(here))):
        text = text.replace(ref.rpartition(":")[2], f"KEY-{number}")
    golden(text + "\n", HERE / "golden" / "room.txt")


def test_the_newest_stay_and_with_an_image_its_wheels(here: Machine) -> None:
    before, kept = set(here.engine.refs), wheels(here)
    gc(here, replace(NOW, keep=2))
    assert set(here.engine.refs) == before
    assert wheels(here) == kept
    gc(here, replace(NOW, max_age=5e9))
    assert set(here.engine.refs) == before


def test_what_is_being_built_stays(here: Machine) -> None:
    """By a key that this pipeline has no more: nobody knows what it needs. By its own keys: what it makes."""
    before, kept = set(here.engine.refs), wheels(here)
    with here.services.locks.hold(f"image-{'c' * 64}", "image:gone"):
        assert "images and wheels stay: image cccccccccccc is going on" in gc(here)
    with here.services.locks.hold(f"compile-{'c' * 64}", "compile:gone"):
        assert "images and wheels stay: compile cccccccccccc is going on" in gc(here)
    assert set(here.engine.refs) == before
    assert wheels(here) == kept
    with here.services.locks.hold(f"image-{here.tier.key}", "image:pytorch-clean"):
        gc(here)
    assert set(here.engine.refs) == wanted(here)
    assert wheels(here) == kept  # which of them it builds from, nobody looks


def test_a_compile_that_has_outlived_its_doit_keeps_all_that_it_uses(here: Machine) -> None:
    session = here.session
    step = here.step
    (here.layout.root / SOURCE).write_text("words of the third kind\n")
    partial = here.layout.partial_wheels(step.key)
    partial.mkdir()
    old = 1.0
    os.utime(partial, (old, old))
    container = compile_container(step, user=(1, 1), jobs=1, room=1, ccache=partial, wheels=partial, checkout="here")
    id_ = here.engine.start(container)
    ccache = here.layout.work / "ccache"
    kept = set(ccache.iterdir())
    gc(here)
    assert partial.is_dir()
    assert step.builder in here.engine.refs
    assert set(ccache.iterdir()) == kept
    here.engine.remove(id_)
    gc(here)
    assert not partial.exists()
    assert step.builder not in here.engine.refs
    assert session.plan.tiers["arr-base"].ref not in here.engine.refs


class Refusing:
    """An engine that does not let go of images, as of one that a container was made of this moment."""

    def __init__(self, here: Machine) -> None:
        self._engine = here.engine

    def __getattr__(self, name: str) -> object:
        return getattr(self._engine, name)

    def untag(self, ref: str) -> bool:
        raise EngineError(Problem(ref, "cannot be removed: a container has it", "end its containers first"))


def test_what_the_engine_does_not_let_go_of_is_not_counted(here: Machine) -> None:
    before = set(here.engine.refs)
    session = later(here).with_engine(Refusing(here))  # type: ignore[arg-type]
    make_room(session, [session.plan], replace(NOW))
    assert set(here.engine.refs) == before
    assert "stays:" in here.said
    assert "cannot be removed: a container has it" in here.said


def test_what_could_come_back_is_what_comes_back(here: Machine) -> None:
    """With what stays by default: the newest two. The plans of other variants are asked for only where something may go."""
    asked: list[Session] = []

    def plans(session: Session) -> Callable[[], list[Plan]]:
        def ask() -> list[Plan]:
            asked.append(session)
            return [session.plan]

        return ask

    later_now = later(here)
    assert could_come_back(later_now, plans(later_now)) > 0
    make_room(later_now, [later_now.plan], RoomOptions())
    asked.clear()
    assert could_come_back(later_now, plans(later_now)) == 0
    assert not asked
    (here.layout.root / SOURCE).write_text("words of the third kind\n")
    build(here)
    session = later(here)
    size = could_come_back(session, plans(session))
    assert asked == [session]
    shutil.rmtree(here.layout.work / "ccache")
    said = gc(here, RoomOptions())
    assert size > 300
    assert said.endswith(f"\n{size_text(size)} came back")


def test_status_says_how_much_where_it_is_worth_a_line(here: Machine) -> None:
    (here.layout.root / SOURCE).write_text("words of the third kind\n")
    build(here)
    session = later(here)

    def said() -> list[str]:
        here.console.lines.clear()
        show_status(session, plans=lambda: [session.plan])
        return [line for line in here.console.lines if "could come back" in line]

    assert said() == []
    layers = here.engine.layers_of
    here.engine.layers_of = {id_: tuple((chain, 50_000_000) for chain, _ in found) for id_, found in layers.items()}
    assert said() == ["150 MB of this machine could come back: doit gc --dry-run"]
    here.engine.down = True
    assert said() == []


class Mortal:
    """An engine whose user is killed at its n-th question; `left` is how many are still to come."""

    def __init__(self, engine: ScriptedEngine, left: int) -> None:
        self._engine, self.left = engine, left

    def __getattr__(self, name: str) -> object:
        self.left -= 1
        if not self.left:
            raise Killed
        return getattr(self._engine, name)


def test_killed_at_any_question_it_has_removed_less_and_the_next_one_goes_on(here: Machine, tmp_path: Path) -> None:
    shutil.rmtree(here.layout.work / "ccache")
    for number in range(1, 100):
        copied = shutil.copytree(here.layout.root, tmp_path / f"copy-{number}", symlinks=True)
        one = machine(Layout(copied), tmp_path / "cache")
        before = here.engine
        one.engine = replace(before, refs=dict(before.refs), cached=dict(before.cached))
        session = later(one)
        mortal = Mortal(one.engine, number)
        with contextlib.suppress(Killed):
            make_room(session.with_engine(mortal), [session.plan], NOW)  # type: ignore[arg-type]
        assert set(one.engine.refs) >= wanted(one)
        assert one.step.key in wheels(one)
        gc(one)
        assert set(one.engine.refs) == wanted(one)
        assert wheels(one) == {one.step.key}
        if mortal.left > 0:
            break
    assert number > 10


def test_two_at_once_wait_for_each_other(here: Machine) -> None:
    session = later(here)
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(lambda _: make_room(session, [session.plan], NOW), range(2)))
    assert set(here.engine.refs) == wanted(here)
    assert sum(line == "0 B came back" for line in here.console.lines) == 1
