"""A sealed file is whole or not there, whoever writes it at the same time, and however its writer ends."""

from __future__ import annotations

import resource
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from imagetiers.state.sealed import BROKEN, read_values, seal, unseal
from tests.conftest import HERE

MAGIC = b"test 1\n"
ENDLESS = """
import sys
from pathlib import Path
from imagetiers.state.sealed import seal
print("begun", flush=True)
while True:
    seal(Path(sys.argv[1]), b"test 1\\n", [b"x" * 3_000_000])
"""


def read(path: Path) -> list[bytes]:
    return list(unseal(path, MAGIC, 2))


def test_what_was_sealed_is_read(tmp_path: Path) -> None:
    path = tmp_path / "folder" / "file"
    seal(path, MAGIC, [b"one", b""])

    assert read(path) == [b"one", b""]
    assert list(unseal(path, b"test 2\n", 2)) == []
    assert list(unseal(tmp_path / "none", MAGIC, 2)) == []
    assert list(unseal(tmp_path, MAGIC, 2)) == []


def test_two_writers_and_a_reader(tmp_path: Path) -> None:
    path = tmp_path / "file"
    contents = [[letter * 100_000, letter] for letter in (b"a", b"b")]
    seal(path, MAGIC, contents[0])

    def write(sections: list[bytes]) -> None:
        for _ in range(100):
            seal(path, MAGIC, sections)

    writers = [threading.Thread(target=write, args=(sections,)) for sections in contents]
    for writer in writers:
        writer.start()
    while any(writer.is_alive() for writer in writers):
        assert read(path) in contents
    for writer in writers:
        writer.join()

    assert [left.name for left in tmp_path.iterdir()] == ["file"]


def test_a_writer_that_is_killed(tmp_path: Path) -> None:
    path = tmp_path / "file"
    argv = [sys.executable, "-c", ENDLESS, str(path)]
    for _ in range(5):
        with subprocess.Popen(argv, stdout=subprocess.PIPE, cwd=HERE.parent) as writer:
            assert writer.stdout is not None
            assert writer.stdout.readline() == b"begun\n"
            writer.send_signal(signal.SIGKILL)
        found = list(unseal(path, MAGIC, 1))
        assert found == ([b"x" * 3_000_000] if path.exists() else [])


def test_a_full_disk_leaves_the_old_one(tmp_path: Path) -> None:
    path = tmp_path / "file"
    seal(path, MAGIC, [b"old", b""])
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, hard))
    try:
        seal(path, MAGIC, [b"x" * 100_000, b""])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))

    assert read(path) == [b"old", b""]
    assert [left.name for left in tmp_path.iterdir()] == ["file"]


def test_values_are_of_no_class() -> None:
    with pytest.raises(BROKEN):
        read_values(b"cos\nsystem\n(S'true'\ntR.")


def test_whatever_bit_is_flipped_it_is_not_whole(tmp_path: Path) -> None:
    path = tmp_path / "file"
    seal(path, MAGIC, [b"one", b"two"])
    whole = path.read_bytes()

    for at in range(len(whole)):
        for bit in range(8):
            path.write_bytes(whole[:at] + bytes([whole[at] ^ 1 << bit]) + whole[at + 1 :])
            assert read(path) != [b"one", b"two"], (at, bit)
