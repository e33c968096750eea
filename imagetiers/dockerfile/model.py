"""Dockerfiles as values: stages, instructions and their operands. `parser` reads the text; `reading` says what it means."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from imagetiers.dockerfile.expand import LexError
from imagetiers.dockerfile.flags import Flags
from imagetiers.dockerfile.mounts import Mount, parse_mount
from imagetiers.dockerfile.words import FIELD_BLANKS, json_words, plain_words, quoted_words

__all__ = [
    "SCRATCH",
    "Dockerfile",
    "Heredoc",
    "Instruction",
    "Stage",
    "arg_words",
    "env_words",
    "mounts",
    "stage_args",
]

SCRATCH = "scratch"


@dataclass(frozen=True, slots=True)
class Heredoc:
    """A heredoc behind an instruction: the line that ends it, and the lines before that, line ends included."""

    name: str
    content: str


@dataclass(frozen=True, slots=True)
class Instruction:
    """One instruction: its keyword, flags in order, the rest of its text (continuations joined), its line (from 1)."""

    keyword: str
    flags: Flags
    text: str
    line: int
    heredocs: tuple[Heredoc, ...] = ()

    def flag(self, name: str) -> str | None:
        """Return the value of the first flag of that name, or None."""
        return next((value for key, value in self.flags if key == name), None)

    def words(self) -> tuple[str, ...]:
        """Return the operands, from the JSON form or split at blanks. Raises LexError for a wrong array."""
        listed = json_words(self.text) if self.keyword != "FROM" else None
        return plain_words(self.text) if listed is None else listed


@dataclass(frozen=True, slots=True)
class Stage:
    """A build stage: its name ('' when it has none), what it is FROM (still unexpanded), and its instructions."""

    index: int
    name: str
    base: str
    line: int
    platform: str | None = None
    instructions: tuple[Instruction, ...] = ()

    @property
    def label(self) -> str:
        """How messages and keys call this stage."""
        return self.name or str(self.index)


@dataclass(frozen=True, slots=True)
class Dockerfile:
    """A parsed Dockerfile. `global_args` are the ARG instructions before the first FROM.

    `syntax` is the outside frontend that the file asks for, None for the engine's own.
    """

    name: str
    escape: str
    syntax: str | None
    global_args: tuple[Instruction, ...]
    stages: tuple[Stage, ...] = field(default=())

    def stage(self, name: str | None) -> Stage | None:
        """Return the stage of that name, the last one for None; None when there is none."""
        if name is None:
            return self.stages[-1]
        return next((stage for stage in self.stages if stage.name and stage.name == name.lower()), None)

    def global_words(self) -> tuple[tuple[str, str | None], ...]:
        """Return the arguments before the first FROM, with their defaults."""
        return tuple(word for instruction in self.global_args for word in arg_words(instruction, self.escape))

    def declared_args(self) -> frozenset[str]:
        """Return every build argument that some ARG names."""
        return frozenset(name for name, _ in self.global_words()) | frozenset(
            name for stage in self.stages for name, _ in stage_args(stage, self.escape)
        )

    def earlier(self, stage: Stage, name: str, *, numbers: bool = False) -> Stage | None:
        """Return the stage that `name` means inside `stage`: only those before it can be meant.

        `numbers`: whether a number means a stage, which it does in `COPY --from=` alone.
        """
        for other in self.stages[: stage.index]:
            if (other.name and name.lower() == other.name) or (numbers and name == str(other.index)):
                return other
        return None


def stage_args(stage: Stage, escape: str) -> tuple[tuple[str, str | None], ...]:
    """Return the ARGs that a stage declares, with their defaults."""
    return tuple(word for i in stage.instructions if i.keyword == "ARG" for word in arg_words(i, escape))


def mounts(instruction: Instruction) -> Iterator[Mount]:
    """Yield each `RUN --mount=`. Raises LexError for a wrong one."""
    if instruction.keyword == "RUN":
        for name, value in instruction.flags:
            if name == "mount":
                yield parse_mount(value)


def arg_words(instruction: Instruction, escape: str) -> Iterator[tuple[str, str | None]]:
    """Yield the names that an ARG declares, each with its default. Raises LexError for a name with quotes."""
    for word in quoted_words(instruction.text, escape):
        name, equals, default = word.partition("=")
        if not name or set(name) & set("\"'$\\`"):
            raise LexError(f"'{name}' cannot be the name of an argument")
        yield name, default if equals else None


def env_words(instruction: Instruction, escape: str) -> Iterator[tuple[str, str]]:
    """Yield the names and values of an ENV or LABEL. Raises LexError for a word without '='."""
    words = quoted_words(instruction.text, escape)
    if words and "=" not in words[0]:  # the old form: ENV name all the rest
        name, *rest = FIELD_BLANKS.split(instruction.text, maxsplit=1)
        if not rest:
            raise LexError(f"'{name}' has no value: write {name}=…")
        yield name, rest[0]
        return
    for word in words:
        name, equals, value = word.partition("=")
        if not equals:
            raise LexError(f"'{word}' is not name=value")
        if not name:
            raise LexError(f"'{word}' has no name")
        yield name, value
