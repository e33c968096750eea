"""Writers and readers in processes of their own, all at once, on one directory store."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from imagetiers.ccache.namespace import Namespace
from imagetiers.ccache.pull import pull
from imagetiers.stores.directory import DirectoryStore
from tests.ccache.synthetic import entries_in
from tests.waiting import PATIENCE

HERE = Path(__file__).parent

WRITER = """
import json, sys
from pathlib import Path
sys.path[:0] = sys.argv[1:3]
from synthetic import make_directory
from imagetiers.ccache.push import push
from imagetiers.stores.directory import DirectoryStore

store, folder, number, rounds = DirectoryStore(Path(sys.argv[3])), Path(sys.argv[4]), int(sys.argv[5]), int(sys.argv[6])
for turn in range(rounds):
    made = make_directory(folder, 6, seed=number * 1000 + turn, mean=500)
    result = push(store, "main", folder, step=f"step{number}")
    assert result.pushed >= set(made), result
    print(json.dumps([result.sequence, sorted(result.pushed)]), flush=True)
"""

READER = """
import shutil, sys
from pathlib import Path
sys.path[:0] = sys.argv[1:3]
from synthetic import entries_in
from imagetiers.ccache.format.entry import check_entry
from imagetiers.ccache.pull import pull
from imagetiers.stores.directory import DirectoryStore

store, folder, rounds = DirectoryStore(Path(sys.argv[3])), Path(sys.argv[4]), int(sys.argv[6])
seen = set()
for _ in range(rounds):
    result = pull(store, ["main"], folder, everything=True)
    assert not result.quarantined, result
    found = entries_in(folder)
    assert seen <= found.keys()
    seen = set(found)
    for name, data in found.items():
        check_entry(data, name)
    shutil.rmtree(folder)
"""


def run(tmp_path: Path, writers: int, readers: int, rounds: int) -> None:
    store = tmp_path / "store"

    def start(code: str, kind: str, number: int) -> subprocess.Popen[str]:
        where = [
            str(HERE.parents[1]),
            str(HERE),
            str(store),
            str(tmp_path / f"{kind}{number}"),
            str(number),
            str(rounds),
        ]
        return subprocess.Popen(
            [sys.executable, "-c", code, *where], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )

    processes = [start(WRITER, "writer", n) for n in range(writers)] + [
        start(READER, "reader", n) for n in range(readers)
    ]
    outputs = [process.communicate(timeout=PATIENCE) for process in processes]
    for process, (_, errors) in zip(processes, outputs, strict=True):
        assert process.returncode == 0, errors
    lines = [json.loads(line) for out, _ in outputs[:writers] for line in out.splitlines()]
    sequences = [sequence for sequence, _ in lines]
    assert len(lines) == writers * rounds
    assert len(set(sequences)) == len(sequences)  # heads are linear: no two pushes made the same one
    made: dict[str, bytes] = {}
    for number in range(writers):
        made |= entries_in(tmp_path / f"writer{number}")
    assert {name for _, names in lines for name in names} == set(made)
    opened = DirectoryStore(store)
    pull(opened, ["main"], tmp_path / "all", everything=True)
    assert entries_in(tmp_path / "all") == made
    assert Namespace(opened, "main").load().view.head.state.sequence == max(sequences) == writers * rounds


def test_four_writers_and_two_readers(tmp_path: Path) -> None:
    run(tmp_path, 4, 2, 4)


@pytest.mark.soak
@pytest.mark.timeout(1200)
def test_eight_writers_and_eight_readers_for_fifty_rounds(tmp_path: Path) -> None:
    run(tmp_path, 8, 8, 50)
