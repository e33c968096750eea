"""Every reader of what a store holds, fuzzed under a memory limit: a little always, an hour with -m soak."""

from __future__ import annotations

import os
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest

from imagetiers.ccache.apart import Report, apart
from imagetiers.errors import CorruptError
from tests.ccache.fuzz import CORPUS, READERS, fuzz


def some(names: list[str], examples: int) -> Report:
    return Report(str([fuzz(name, examples=examples) for name in names]))


def test_no_input_raises_anything_else_or_takes_memory() -> None:
    """In a process of its own, which may have 256 MiB."""
    names = list(READERS)
    assert apart("fuzz", partial(some, names, 300), memory=256 << 20).text == str([300] * len(names))


@pytest.mark.parametrize("path", sorted(CORPUS.iterdir()), ids=lambda path: path.name)
def test_what_was_found_once_is_refused(path: Path) -> None:
    read = READERS[path.suffix[1:]][1]
    with pytest.raises(CorruptError):
        read(path.read_bytes())


@pytest.mark.soak
@pytest.mark.timeout(7200)
@pytest.mark.parametrize("name", READERS)
def test_for_an_hour(name: str) -> None:
    seconds = float(os.environ.get("FUZZ_SECONDS", 3600 / len(READERS)))
    command = [sys.executable, "-m", "tests.ccache.fuzz", name, str(seconds)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=Path(__file__).parents[2])
    assert done.returncode == 0, done.stderr
