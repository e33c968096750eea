"""Large inputs: hashed once, never held, sent piece by piece, and what is sent is what was hashed or nothing is."""

from __future__ import annotations

import hashlib
import io
import os
import tarfile
import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from imagetiers.adapters.process import run
from imagetiers.config.layout import Layout
from imagetiers.errors import PipelineError, Problem
from imagetiers.inputs import snapshot
from imagetiers.inputs.context import context_tar
from imagetiers.inputs.files import InputFile, input_file
from imagetiers.inputs.repository import load_repository
from imagetiers.inputs.snapshot import LARGE_BYTES
from imagetiers.repository_file import Reads
from imagetiers.state.plan_memory import recall_hashes
from tests.many.repository import make_repository, remember_plan

SIZE = LARGE_BYTES + 5


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    made = make_repository(tmp_path / "one", 1)
    for number in range(3):
        (folder_of(made) / f"large-{number}").write_bytes(bytes([number]) * SIZE)
    return made


def folder_of(layout: Layout) -> Path:
    return layout.tier("t00000") / "data"


def read(layout: Layout, reads: Reads | None = None) -> dict[str, InputFile]:
    files = load_repository(layout, None, reads).inputs["t00000"].files.files
    return {file.path: file for file in files}


def test_large_files_are_hashed_and_not_held(layout: Layout) -> None:
    files = read(layout)

    assert list(files) == sorted(files)
    for number in range(3):
        file = files[f"data/large-{number}"]
        assert (file.content, file.size) == (None, SIZE)
        assert file.sha256 == hashlib.sha256(bytes([number]) * SIZE).hexdigest()
        assert b"".join(file.pieces()) == bytes([number]) * SIZE
    assert files["data/0"].content is not None


def test_the_tar_is_read_by_others(layout: Layout) -> None:
    files = [*read(layout).values(), input_file("a" * 90 + "/" + "ü" * 80, b"x", executable=True)]
    files.append(input_file("link", b"data/0", link=True))
    with tarfile.open(fileobj=io.BytesIO(b"".join(context_tar(files, b"FROM scratch\n")))) as tar:
        found = {member.name: member for member in tar}
        assert found.keys() == {"Dockerfile", *(file.path for file in files)}
        for file in files:
            member = found[file.path]
            assert (member.mtime, member.uid, member.issym()) == (315_532_800, 0, file.link)
            data = tar.extractfile(member) if not file.link else None
            assert member.linkname == file.target if data is None else data.read() == b"".join(file.pieces())
        assert found[files[-2].path].mode == 0o755


def grow(path: Path) -> None:
    with path.open("ab") as file:
        file.write(b"more")


def cut(path: Path) -> None:
    os.truncate(path, SIZE - 1)


def edit(path: Path) -> None:
    before = path.stat()
    path.write_bytes(b"\1" * SIZE)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def link(path: Path) -> None:
    path.rename(path.with_name("moved"))
    path.symlink_to("moved")


@pytest.mark.parametrize("change", [grow, cut, edit, link, Path.unlink], ids=lambda change: change.__name__)
def test_what_was_changed_since_is_not_sent(change: Callable[[Path], None], layout: Layout, tmp_path: Path) -> None:
    files = read(layout)
    change(folder_of(layout) / "large-0")
    received, whole = tmp_path / "received", tmp_path / "whole"

    with pytest.raises(PipelineError, match="data/large-0") as raised:
        run(
            ("sh", "-c", f"cat >{received} && touch {whole}"),
            stdin=context_tar(files.values(), b"FROM scratch\n"),
        )

    assert raised.value.problems[0].hint
    assert not whole.exists()


def test_a_program_whose_input_fails_is_ended_with_its_children(tmp_path: Path) -> None:
    def pieces() -> Iterator[bytes]:
        yield b"first"
        raise PipelineError(Problem("x", "was changed"))

    with pytest.raises(PipelineError, match="was changed"):
        run(("sh", "-c", f"(cat && touch {tmp_path}/taken-for-whole); true"), stdin=pieces())

    assert list(tmp_path.iterdir()) == []


def test_what_was_hashed_is_not_read_again(layout: Layout, monkeypatch: pytest.MonkeyPatch) -> None:
    remember_plan(layout)
    known = recall_hashes(layout)
    assert len(known) == 3
    first = read(layout)

    def refuse(path: str, shown: str) -> None:
        raise AssertionError(f"{path} is read, as {shown}")

    monkeypatch.setattr(snapshot, "hash_input", refuse)

    assert read(layout, Reads(known)) == first
    edit(folder_of(layout) / "large-0")
    with pytest.raises(AssertionError, match="large-0 is read"):
        read(layout, Reads(recall_hashes(layout)))


def test_an_edit_of_the_same_size_and_time_is_another_hash(layout: Layout) -> None:
    remember_plan(layout)
    edit(folder_of(layout) / "large-0")
    files = read(layout, Reads(recall_hashes(layout)))

    assert files["data/large-0"].sha256 == files["data/large-1"].sha256


def test_memory_does_not_grow_with_a_file(layout: Layout) -> None:
    path = folder_of(layout) / "large-0"
    os.truncate(path, 64 << 20)
    tracemalloc.start()
    try:
        files = read(layout)
        sent = sum(len(piece) for piece in context_tar(files.values(), b"FROM scratch\n"))
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert sent > 64 << 20
    assert most < 16 << 20
