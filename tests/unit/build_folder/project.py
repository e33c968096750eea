"""A real CMake project, built with and without the folder of the build before, and edits to it of every kind."""

from __future__ import annotations

import hashlib
import os
import random
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from imagetiers.build_folder import toolchain
from imagetiers.build_folder.keep import BEGIN_AGAIN, Keeper

SOURCES = Path(__file__).parents[2] / "repos" / "cmake"
Edit = Callable[["Project"], str]


@dataclass(frozen=True)
class Built:
    """What a build gave: hashes of what was installed, whether the folder was used, and why not."""

    outputs: dict[str, str]
    used: bool
    why: str
    made: tuple[str, ...]
    kept: str


@dataclass
class Project:
    """`tree` is what the developer has; each build has a worker of its own, always at the same place.

    `installs`: CMake's rules are followed by the step itself, and not by a target of ninja's.
    """

    home: Path
    files: dict[str, bytes] = field(default_factory=dict)
    flags: str = "-g0"
    toolchain: str = "1"
    turn: int = 0
    installs: bool = True

    @classmethod
    def make(cls, home: Path, sources: Path = SOURCES) -> Project:
        """Begin with the project as it lies in this repository."""
        files = {str(p.relative_to(sources)): p.read_bytes() for p in sorted(sources.rglob("*")) if p.is_file()}
        return cls(home, files)

    @property
    def kept(self) -> Path:
        """What the cache has."""
        return self.home / "cache"

    def build(self, monkeypatch: pytest.MonkeyPatch, *, folder: bool, keep: bool = True) -> Built:
        """Be a fresh worker: nothing is there but the sources, and the folder if it is wanted."""
        return self._built(self._fresh(monkeypatch, folder=folder), keep=keep)

    def restore(self, monkeypatch: pytest.MonkeyPatch) -> str:
        """Be a fresh worker that builds nothing; say why the folder is not used."""
        root = self._fresh(monkeypatch, folder=True)
        step = self._step()
        step.restore(str(root), str(root / "build"))
        return step.why

    def _step(self) -> Keeper:
        return Keeper.resume(str(self.home / "given"), str(self.home / "left"), str(self.home / "state"))

    def _fresh(self, monkeypatch: pytest.MonkeyPatch, *, folder: bool) -> Path:
        root, state = self.home / "src", self.home / "state"
        for path in (root, state, self.home / "left", self.home / "out", self.home / "given"):
            shutil.rmtree(path, ignore_errors=True)
        for name, data in self.files.items():
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            (root / name).write_bytes(data)
        if folder and self.kept.exists():
            shutil.copytree(self.kept, self.home / "given")
        monkeypatch.setattr(toolchain, "machine", lambda _leave_out: {"/usr": self.toolchain})
        monkeypatch.setenv("CXXFLAGS", self.flags)
        monkeypatch.setenv("CFLAGS", self.flags)
        return root

    def _built(self, root: Path, *, keep: bool) -> Built:
        build = root / "build"
        step = self._step()
        if not step.restore(str(root), str(build)):
            self._configure(root, build)
        step.suspend()
        step = self._step()
        code = self._run(step)
        step.suspend()
        if code == BEGIN_AGAIN:
            self._configure(root, build)
            step = self._step()
            code = self._run(step)
            step.suspend()
        assert code == 0
        outputs = {
            str(path.relative_to(self.home / "out")): hashlib.sha256(path.read_bytes()).hexdigest()
            for path in sorted((self.home / "out").rglob("*"))
            if path.is_file()
        }
        step = self._step()
        kept = step.save() if keep else ""
        if kept == "new":
            shutil.rmtree(self.kept, ignore_errors=True)
            (self.home / "left").rename(self.kept)
        return Built(outputs, step.mode == "used", step.why, step.made, kept)

    def _run(self, step: Keeper) -> int:
        return step.build(["--quiet"], ["all" if self.installs else "install"], installs=self.installs)

    def _configure(self, root: Path, build: Path) -> None:
        words = ["cmake", "-S", str(root), "-B", str(build), "-G", "Ninja"]
        words.append(f"-DCMAKE_INSTALL_PREFIX={self.home / 'out'}")
        done = subprocess.run(words, capture_output=True, text=True, check=False, env=dict(os.environ))
        assert done.returncode == 0, done.stderr

    def write(self, name: str, text: str) -> None:
        """Let a file hold this."""
        self.files[name] = text.encode()

    def add(self, name: str, line: str) -> None:
        """Add a line to a file."""
        self.files[name] = self.files.get(name, b"").rstrip() + f"\n{line}\n".encode()


def chosen(project: Project, rng: random.Random, kind: str) -> str:
    """Make an edit of that kind; say what it is."""
    project.turn += 1
    number = project.turn
    source = rng.choice([name for name in project.files if name.endswith((".c", ".cpp")) and name != "src/maker.c"])
    if kind == "source":
        project.add(source, f"int edit_{number}(void); int edit_{number}(void) {{ return {number}; }}")
        return source
    if kind == "header":
        name = rng.choice([n for n in project.files if n.endswith(".h") and "version" not in n and "maker" not in n])
        project.add(name, f"#define EDIT_{number} {number}")
        return name
    if kind == "value":  # one that changes what all that include it do
        name, text = rng.choice(
            [
                ("third/extra.h", f"#define EXTRA {number}"),
                ("include/demo/banner.h", f'#define BANNER "demo {number}"'),
                (
                    "include/demo/weights.h",
                    f"#pragma once\nnamespace demo {{ inline int weight(int at) {{ return at + {number}; }} }}",
                ),
            ]
        )
        project.write(name, text + "\n")
        return name
    if kind == "generator":
        name, text = rng.choice(
            [
                ("src/table.txt", f"1 2 {number}\n"),
                ("src/maker.h", f"#define MADE {number}\n"),
                ("scripts/shape.py", project.files["scripts/shape.py"].decode() + f"\nEDIT = {number}\n"),
                (
                    "scripts/shape.py",
                    "def text(rows):\n    return f\"const int table[{len(rows)}] = {{{', '.join(str(r + "
                    + str(number)
                    + ') for r in rows)}}};\\n"\n',
                ),
            ]
        )
        project.write(name, text)
        return name
    if kind == "undeclared":
        name, text = rng.choice(
            [
                ("include/demo/version.h", f"#define VERSION_MAJOR 1\n#define VERSION_MINOR {number}\n"),
                ("src/blob.bin", f"blob {number}"),
                ("src/demo.map", f"{{ global: demo_*; edit_{number}; local: *; }};\n"),
                ("src/config.h.in", f'#define CONFIGURED "@version_minor@ {number}"\n'),
            ]
        )
        project.write(name, text)
        return name
    if kind == "cmake":
        project.add("cmake/options.cmake", f'set(CMAKE_CXX_FLAGS "${{CMAKE_CXX_FLAGS}} -DEDIT={number}")')
        return "cmake/options.cmake"
    if kind == "flag":
        project.flags = rng.choice(["-g0", "-O2", f"-DFLAG={number}", "-fno-inline"])
        return project.flags
    if kind == "added":
        name, text = rng.choice(
            [
                (f"src/plugin_{number}.cpp", f'extern "C" int plugin_{number}(void) {{ return {number}; }}'),
                ("src/extra.h", f"#define EXTRA {1000 + number}"),  # found before the one in third/
                ("src/config.h", f'#define CONFIGURED "shadow {number}"'),
                (f"notes-{number}.txt", "nothing"),
            ]
        )
        project.write(name, text + "\n")
        return name
    if kind == "removed":
        names = [
            n for n in project.files if n in {"src/extra.h", "src/config.h"} or n.startswith(("notes-", "src/plugin_"))
        ]
        names = [n for n in names if n not in {"src/plugin_a.cpp", "src/plugin_b.cpp"}]
        if not names:
            return chosen(project, rng, "added")
        name = rng.choice(names)
        del project.files[name]
        return name
    if kind == "unread":
        project.add("README.md", f"{number}")
        return "README.md"
    if kind == "toolchain":
        project.toolchain = str(number)
        return "another compiler"
    if kind == "many":
        return ", ".join(chosen(project, rng, rng.choice(("source", "header", "value"))) for _ in range(3))
    assert kind == "none"
    return "nothing"


#: Kinds of edits, the more likely ones more often.
KINDS = (
    *("source",) * 6, *("header",) * 4, *("value",) * 5, *("many",) * 3, *("unread",) * 2, *("none",) * 2, *("reverted",) * 4,
    *("generator",) * 3, *("undeclared",) * 4, "cmake", "flag", *("added",) * 3, *("removed",) * 3, "toolchain",
)  # fmt: skip
#: Those that a folder must never be used for.
NEVER = {"generator", "undeclared", "cmake", "flag", "added", "removed", "toolchain"}
#: Those that it must be used for, or it would be of no use.
ALWAYS = {"source", "unread", "none"}
