"""What ninja says of a build that CMake has written: its rules, its dependencies, what it has run."""

from __future__ import annotations

import os
import re
import subprocess
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from pathlib import Path

from imagetiers.build_folder.errors import UnusableError

__all__ = [
    "KINDS",
    "Graph",
    "Kinds",
    "command",
    "dependencies",
    "graph",
    "installed",
    "kinds",
    "outputs_since",
    "run",
    "tool",
]

KINDS = ("compiled", "linked", "custom")
"""What outputs are made by."""

_COMPILES = re.compile(r"[A-Za-z]+_COMPILER__\w+")
_LINKS = re.compile(
    r"[A-Za-z]+_(SHARED_LIBRARY|STATIC_LIBRARY|MODULE_LIBRARY|EXECUTABLE)_LINKER__\w+|CMAKE_SYMLINK_(LIBRARY|EXECUTABLE)"
)
_OTHERS = frozenset({"CLEAN", "CUSTOM_COMMAND", "HELP", "RERUN_CMAKE", "VERIFY_GLOBS", "phony"})
_NODE = re.compile(r'"(0x[0-9a-f]+)" \[label="(.*)"\]')
_ARROW = re.compile(r'"(0x[0-9a-f]+)" -> "(0x[0-9a-f]+)"')
_COMMAND = re.compile(r"build (.*): CUSTOM_COMMAND(?: |$)")
_WORD = re.compile(r"(?:[^ $]|\$.)+")
_ORDER_ONLY = "style=dotted]"
_BATCH = 60_000  # characters of arguments


@dataclass(frozen=True, slots=True)
class Kinds:
    """The outputs of a build by what makes them, as ninja names them."""

    compiled: frozenset[str]
    linked: frozenset[str]
    custom: frozenset[str]


def tool(build: str, *words: str) -> str:
    """Return what one of ninja's own tools prints. Raises UnusableError."""
    done = subprocess.run(
        ["ninja", "-C", build, "-t", *words], capture_output=True, text=True, errors="surrogateescape", check=False
    )
    if done.returncode != 0:
        raise UnusableError(f"ninja -t {words[0]} ended with {done.returncode}: {done.stderr.strip()[:200]}")
    lines = done.stdout.split("\n")
    return "\n".join(lines[1:] if lines[0].startswith("ninja: Entering") else lines)


def run(build: str, words: Sequence[str]) -> int:
    """Run ninja; return its exit code."""
    return subprocess.run(["ninja", "-C", build, *words], check=False).returncode


def kinds(build: str) -> Kinds:
    """Return the outputs by kind. Raises UnusableError for a rule that is unknown here: what it reads is unknown, too."""
    found: dict[str, set[str]] = {name: set() for name in KINDS}
    for line in tool(build, "targets", "all").splitlines():
        output, _, rule = line.rpartition(": ")
        if _COMPILES.fullmatch(rule):
            found["compiled"].add(output)
        elif _LINKS.fullmatch(rule):
            found["linked"].add(output)
        elif rule in _OTHERS:
            if rule == "CUSTOM_COMMAND":
                found["custom"].add(output)
        else:
            raise UnusableError(f"the rule {rule} is none that CMake has for compilers, linkers and commands")
    return Kinds(*(frozenset(found[name]) for name in KINDS))


@dataclass(frozen=True, slots=True)
class Graph:
    """What is made from what, by ninja's own numbers of files and of the edges between them.

    `above` has everything that must be there before, `strongly` only what makes it be made again.
    """

    names: dict[str, str]
    above: dict[str, list[str]]
    strongly: dict[str, list[str]]

    def inputs(self, targets: Iterable[str], *, strongly: bool = False) -> set[str]:
        """Return all that these targets are made from, and what that is made from, and so on."""
        arrows = self.strongly if strongly else self.above
        wanted = set(targets)
        waiting = [number for number, name in self.names.items() if name in wanted]
        seen: set[str] = set()
        while waiting:
            for number in arrows.get(waiting.pop(), ()):
                if number not in seen:
                    seen.add(number)
                    waiting.append(number)
        return {self.names[number] for number in seen if number in self.names}

    def steps(self, kinds: Kinds, wanted: AbstractSet[str]) -> list[tuple[str, set[str]]]:
        """Divide what is wanted into steps, each of one kind, which need nothing but the steps before them."""
        kind_of = {path: kind for kind in KINDS for path in getattr(kinds, kind) & wanted}
        ranks: dict[str, dict[str, int]] = {}  # of a number: the last rank of each kind that it needs, itself included
        found: dict[tuple[int, str], set[str]] = defaultdict(set)
        waiting = [(number, False) for number in self.names]
        while waiting:
            number, ready = waiting.pop()
            if number in ranks:
                continue
            if not ready:
                waiting.append((number, True))
                waiting += [(one, False) for one in self.above.get(number, ()) if one not in ranks]
                continue
            below: dict[str, int] = {}
            for one in self.above.get(number, ()):
                for kind, rank in ranks.get(one, {}).items():
                    below[kind] = max(rank, below.get(kind, 0))
            name = self.names.get(number, "")
            kind_here = kind_of.get(name)
            if kind_here is not None:
                rank = max((rank + (other != kind_here) for other, rank in below.items()), default=0)
                found[rank, kind_here].add(name)
                below = {kind_here: rank}
            ranks[number] = below
        return [(kind, found[rank, kind]) for rank, kind in sorted(found)]


def graph(build: str, targets: Iterable[str]) -> Graph:
    """Return the graph above these targets. Raises UnusableError.

    `ninja -t inputs` leaves some out in version 1.11, and is not there in 1.10.
    """
    names: dict[str, str] = {}
    above: dict[str, list[str]] = defaultdict(list)
    strongly: dict[str, list[str]] = defaultdict(list)
    for line in tool(build, "graph", *targets).splitlines():
        if match := _NODE.fullmatch(line):
            names[match[1]] = match[2]
        elif match := _ARROW.match(line):
            above[match[2]].append(match[1])
            if not line.endswith(_ORDER_ONLY):
                strongly[match[2]].append(match[1])
    return Graph(names, above, strongly)


def each_time(build: str) -> set[str]:
    """Return the outputs, absolute paths, of commands that run each time: one of their outputs is no file.

    ninja's tools do not say which outputs belong together, so this reads the lines that CMake writes.
    """
    found: set[str] = set()
    folder = f"{build}/"
    with open(f"{build}/build.ninja", encoding="utf-8", errors="surrogateescape") as file:
        for line in file:
            if line.startswith("cmake_ninja_workdir = "):
                folder = line.partition(" = ")[2].strip()
            match = _COMMAND.match(line)
            if match is None:
                continue
            words = [_unescaped(word, folder) for word in _WORD.findall(match[1]) if word != "|"]
            paths = {os.path.normpath(os.path.join(build, word)) for word in words}
            if not all(map(os.path.lexists, paths)):
                found |= paths
    return found


def _unescaped(word: str, folder: str) -> str:
    return re.sub(r"\$(.)", r"\1", word.replace("${cmake_ninja_workdir}", folder.replace("$", "$$")))


def command(build: str, output: str) -> str:
    """Return the command that makes an output. Raises UnusableError."""
    return tool(build, "commands", "-s", output).strip()


def dependencies(build: str, outputs: Iterable[str] | None = None) -> set[str]:
    """Return what the compilers of these outputs (None: of all) have read, by ninja's log of dependencies; absolute paths."""
    found: set[str] = set()
    for batch in [[]] if outputs is None else _batches(outputs):
        found.update(line[4:] for line in tool(build, "deps", *batch).split("\n") if line.startswith("    "))
    return {os.path.normpath(os.path.join(build, path)) for path in found}


def outputs_since(build: str, at: int) -> set[str]:
    """Return which outputs ninja has made since its log was `at` bytes long. Raises UnusableError."""
    try:
        with open(f"{build}/.ninja_log", "rb") as file:
            size = os.fstat(file.fileno()).st_size
            if size < at:
                raise UnusableError("ninja has written its log anew")
            file.seek(at)
            lines = file.read().decode("utf-8", "surrogateescape").splitlines()
    except OSError as error:
        raise UnusableError(f"ninja's log cannot be read: {error.strerror}") from error
    rows = [line.split("\t") for line in lines if line and not line.startswith("#")]
    if any(len(row) != 5 for row in rows):  # noqa: PLR2004  start, end, time, output, hash
        raise UnusableError("ninja's log has another form than is known")
    return {row[3] for row in rows}


def installed(build: str) -> set[str]:
    """Return the files that CMake has installed, absolute paths: they are installed again each time."""
    found: set[str] = set()
    for manifest in Path(build).glob("install_manifest*.txt"):
        found.update(manifest.read_text(encoding="utf-8", errors="surrogateescape").splitlines())
    return found


def _batches(words: Iterable[str]) -> Iterator[list[str]]:
    batch: list[str] = []
    size = 0
    for word in sorted(words):
        size += len(word) + 1
        if size > _BATCH and batch:
            yield batch
            batch, size = [], len(word) + 1
        batch.append(word)
    if batch:
        yield batch
