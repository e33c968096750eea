"""Finished wheels that somebody or something has damaged: absent, said in one line, and brought back by the next compile."""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Callable
from io import BufferedReader
from pathlib import Path

import pytest

from imagetiers.building.deadline import Deadline
from imagetiers.config.layout import Layout
from imagetiers.operations.compile import compile_wheels
from imagetiers.state import wheels
from imagetiers.state.observe import observe
from tests.registry.harness import Builder, builder

WHEEL = "tiny-1-py3-none-any.whl"


@pytest.fixture
def made(tiny: Layout, tmp_path: Path) -> tuple[Builder, Path]:
    """A builder with its wheels, here and in the cache, and the folder they lie in."""
    me = builder(tiny.root, "", tmp_path / "cache")
    partial = me.layout.partial_wheels(key(me))
    partial.mkdir(parents=True)
    (partial / WHEEL).write_bytes(b"wheel" * 100)
    wheels.commit(me.layout, key(me), "compile:pytorch-clean")
    wheels.publish(me.session, key(me))
    return me, me.layout.wheels(key(me))


def key(me: Builder) -> str:
    step = me.tier("pytorch-clean").compile
    assert step is not None
    return step.key


def cut(path: Path) -> None:
    os.truncate(path, 7)


def flip(path: Path) -> None:
    path.write_bytes(b"WHEEL" * 100)


def link(path: Path) -> None:
    path.rename(path.with_suffix(".elsewhere"))
    path.symlink_to(path.with_suffix(".elsewhere"))


def add(path: Path) -> None:
    shutil.copy(path, path.with_name("more-1-py3-none-any.whl"))


def garble_the_list(path: Path) -> None:
    (path.parent / wheels.WHEELS_LIST).write_text("[]")


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (Path.unlink, f"{WHEEL} is gone"),
        (cut, f"{WHEEL} is not what was made: 7 bytes"),
        (flip, f"{WHEEL} is not what was made: 500 bytes"),
        (link, f"{WHEEL} is gone"),
        (add, "more-1-py3-none-any.whl is not listed"),
        (garble_the_list, "wheels.json lists nothing"),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_damaged_wheels_are_absent_until_the_next_compile(
    made: tuple[Builder, Path], damage: Callable[[Path], object], says: str
) -> None:
    me, folder = made
    damage(folder / WHEEL)

    seen = observe(me.session)
    compile_wheels(me.session, me.tier("pytorch-clean"), Deadline(None))

    assert key(me) not in seen.wheels
    assert seen.notes == (f"{folder}: {says}: the wheels count as absent, the next compile brings them back",)
    assert f"compile:pytorch-clean: {folder}: {says}: the wheels count as absent" in me.console.lines
    assert f"compile:pytorch-clean: wheels {key(me)[:12]} taken from {me.services.store.url}" in me.console.lines
    assert (folder / WHEEL).read_bytes() == b"wheel" * 100
    assert wheels.have(me.layout, key(me))
    assert observe(me.session).notes == ()


def test_wheels_are_hashed_once(made: tuple[Builder, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    me, folder = made
    hashed: list[Path] = []
    real = hashlib.file_digest

    def counted(file: BufferedReader, name: str) -> object:
        hashed.append(Path(file.name))
        return real(file, name)

    monkeypatch.setattr(hashlib, "file_digest", counted)

    assert wheels.have(me.layout, key(me))
    assert hashed == [], "the commit has hashed them"
    os.utime(folder / WHEEL, ns=(1, 1))
    assert wheels.have(me.layout, key(me))
    assert wheels.have(me.layout, key(me))
    assert hashed == [folder / WHEEL], "another time, the same bytes"


def test_without_a_mark_they_are_hashed(made: tuple[Builder, Path]) -> None:
    me, folder = made
    shutil.rmtree(me.layout.state)
    me.layout.state.write_text("in the way of any mark")

    assert wheels.have(me.layout, key(me))
    flip(folder / WHEEL)
    assert not wheels.have(me.layout, key(me))


@pytest.mark.parametrize("mark", [b"", b"[]", b'{"list": 1}', b'{"list": "x", "files": []}', b"\xff"])
def test_a_mark_that_is_none_vouches_for_nothing(made: tuple[Builder, Path], mark: bytes) -> None:
    me, folder = made
    flip(folder / WHEEL)
    (me.layout.state / "wheels" / key(me)).write_bytes(mark)
    assert not wheels.have(me.layout, key(me))
