"""What a push remembers of files that it has read: it spares the reading, and never an entry."""

from __future__ import annotations

import os
import shutil
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from imagetiers.ccache import known_files
from imagetiers.ccache.local import Look, look, scan, segments_folder
from imagetiers.ccache.namespace import SEEN
from imagetiers.ccache.push import PushOutcome, push
from imagetiers.stores.directory import DirectoryStore
from tests.ccache.synthetic import make_entry, make_name, put_entry

COUNT = 40
LARGE = b"a payload that does not compress: \xff\x17\xe2\x99"


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """List the files that were opened for their content; all files count as settled at once."""
    opened: list[str] = []

    def counting(path: str) -> Look | None:
        opened.append(path)
        return look(path)

    monkeypatch.setattr(known_files, "look", counting)
    monkeypatch.setattr(known_files, "_SETTLED", 0)
    return opened


def manifest(number: int, version: int = 0) -> bytes:
    return make_entry(
        b"%d %06d " % (number, version) + LARGE, kind=1, created=1_700_000_000 + version, compressed=False
    )


def put(folder: Path, number: int, version: int = 0) -> Path:
    return put_entry(folder, make_name(number), manifest(number, version))


def pushed(store: DirectoryStore, folder: Path) -> PushOutcome:
    return push(store, "main", folder).outcome


@pytest.fixture
def warm(store: DirectoryStore, tmp_path: Path, read: list[str]) -> Path:
    """A directory of manifests that were pushed, and read once for that."""
    folder = tmp_path / "a"
    for number in range(COUNT):
        put(folder, number)
    time.sleep(0.03)  # two ticks of the kernel's clock
    assert pushed(store, folder) is PushOutcome.PUSHED
    assert pushed(store, folder) is PushOutcome.NOTHING_NEW
    assert read == []
    return folder


def seen_file(folder: Path) -> Path:
    return segments_folder(folder) / "main" / SEEN


def test_nothing_is_read_twice(store: DirectoryStore, warm: Path, read: list[str]) -> None:
    for _ in range(2):
        assert pushed(store, warm) is PushOutcome.NOTHING_NEW
    assert read == []


def test_what_was_touched_is_read_again_and_only_that(store: DirectoryStore, warm: Path, read: list[str]) -> None:
    some = [scan(warm)[make_name(number)].path for number in (3, 5)]
    for path in some:
        os.utime(path)
    assert pushed(store, warm) is PushOutcome.NOTHING_NEW
    assert sorted(read) == sorted(some)


@pytest.mark.parametrize("renamed", [True, False])
def test_another_version_of_the_same_size_and_mtime_is_pushed(
    store: DirectoryStore, warm: Path, *, renamed: bool
) -> None:
    path = Path(scan(warm)[make_name(7)].path)
    before = path.stat()
    data = manifest(7, version=1)
    if renamed:
        new = path.with_name("new")
        new.write_bytes(data)
        new.replace(path)
    else:
        path.write_bytes(data)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    after = path.stat()
    assert (after.st_size, after.st_mtime_ns) == (before.st_size, before.st_mtime_ns)
    assert push(store, "main", warm).pushed == {make_name(7)}


def test_what_another_namespace_lacks_is_pushed_there(store: DirectoryStore, warm: Path) -> None:
    assert push(store, "other", warm).entries == COUNT


def test_what_the_namespace_has_lost_is_pushed_again(store: DirectoryStore, warm: Path) -> None:
    for blob in list(store.list()):
        store.delete(blob.name)
    assert push(store, "main", warm).entries == COUNT


def test_another_version_in_the_namespace_counts(store: DirectoryStore, warm: Path, tmp_path: Path) -> None:
    """A file that was seen as pushed is compared with what is there now, not with what was there then."""
    put(tmp_path / "b", 9, version=2)
    push(store, "main", tmp_path / "b")
    put(warm, 9, version=3)
    assert push(store, "main", warm).pushed == {make_name(9)}


@pytest.mark.parametrize("at", [0, 4, 8, 20, 40, 8 + 40 * COUNT, -1])
def test_a_damaged_file_costs_the_reading(store: DirectoryStore, warm: Path, read: list[str], at: int) -> None:
    data = bytearray(seen_file(warm).read_bytes())
    data[at] ^= 0x40
    seen_file(warm).write_bytes(data)
    assert pushed(store, warm) is PushOutcome.NOTHING_NEW
    assert len(read) == COUNT
    read.clear()
    assert pushed(store, warm) is PushOutcome.NOTHING_NEW
    assert read == []


@pytest.mark.parametrize("keep", [0, 1, 7, 8, 24, 60])
def test_a_file_that_is_cut_off_costs_the_reading(
    store: DirectoryStore, warm: Path, read: list[str], keep: int
) -> None:
    seen_file(warm).write_bytes(seen_file(warm).read_bytes()[:keep])
    assert pushed(store, warm) is PushOutcome.NOTHING_NEW
    assert len(read) == COUNT


def test_a_file_that_is_too_large_is_not_read(
    store: DirectoryStore, warm: Path, read: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(known_files, "ENTRIES_MAX", COUNT - 1)
    assert pushed(store, warm) is PushOutcome.NOTHING_NEW
    assert len(read) == COUNT


def test_what_was_changed_a_moment_ago_is_not_trusted(
    store: DirectoryStore, warm: Path, read: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its next change could come within the same tick of the clock, and leave its ctime as it is."""
    monkeypatch.setattr(known_files, "_SETTLED", 60_000_000_000)
    seen_file(warm).unlink()
    for _ in range(2):
        assert pushed(store, warm) is PushOutcome.NOTHING_NEW
    assert len(read) == 2 * COUNT
    assert not seen_file(warm).exists()


def test_what_was_written_a_moment_ago_is_read_again_after_it_was_pushed(
    store: DirectoryStore, tmp_path: Path, read: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(known_files, "_SETTLED", 60_000_000_000)
    put(tmp_path / "a", 1)
    assert pushed(store, tmp_path / "a") is PushOutcome.PUSHED
    assert pushed(store, tmp_path / "a") is PushOutcome.NOTHING_NEW
    assert len(read) == 1


def test_where_the_mtime_passes_for_a_ctime_nothing_is_remembered(
    store: DirectoryStore, warm: Path, read: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    real = os.fstat

    def without_ctime(fd: int) -> SimpleNamespace:
        found = real(fd)
        fields = {name: getattr(found, name) for name in dir(found) if name.startswith("st_")}
        return SimpleNamespace(**fields | {"st_ctime_ns": found.st_mtime_ns})

    seen_file(warm).unlink()
    monkeypatch.setattr(os, "fstat", without_ctime)
    assert pushed(store, warm) is PushOutcome.NOTHING_NEW
    assert len(read) == COUNT
    assert not seen_file(warm).exists()


def test_what_is_remembered_does_not_outgrow_the_directory(store: DirectoryStore, warm: Path) -> None:
    for round_ in range(4):
        for number in range(COUNT):
            put(warm, number, version=round_ + 1)
        time.sleep(0.03)
        for _ in range(2):
            pushed(store, warm)
    assert seen_file(warm).stat().st_size <= 8 + 16 + 40 * COUNT


def test_a_folder_that_takes_no_file_is_no_failure(store: DirectoryStore, warm: Path, read: list[str]) -> None:
    shutil.rmtree(segments_folder(warm))
    segments_folder(warm).write_text("in the way")
    assert pushed(store, warm) is PushOutcome.NOTHING_NEW
    assert len(read) == COUNT
