"""Dockerfiles as values: stages, arguments, which stages a build runs, and what they take from the context.

Scopes and look-ups are BuildKit's (moby/buildkit frontend/dockerfile/dockerfile2llb): ARG and ENV, `--from`, mounts. What
cannot be resolved statically raises Unresolved and is told as a problem, never guessed. `dockerparse` reads the text.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from imagetiers.dockershell import Unresolved, expand

__all__ = ["ContextUse", "Dockerfile", "Instruction", "Stage", "Unresolved", "arg_words", "mounts", "stage_args"]

_REMOTE = re.compile(r"(https?|git|ssh)://|git@|[a-z0-9.-]+\.[a-z]+/.*\.git(#|$)")


@dataclass(frozen=True, slots=True)
class Instruction:
    """One instruction: its keyword, flags in order, the rest of its text (comments gone), and its line (from 1)."""

    keyword: str
    flags: tuple[tuple[str, str], ...]
    text: str
    line: int
    heredocs: tuple[str, ...] = ()

    def flag(self, name: str) -> str | None:
        """Return the value of the first flag of that name, or None."""
        return next((value for key, value in self.flags if key == name), None)

    def words(self) -> tuple[str, ...]:
        """Return the operands, from the JSON form or split at blanks."""
        if self.text.startswith("["):
            try:
                listed = json.loads(self.text)
            except ValueError:
                listed = None
            if isinstance(listed, list) and all(isinstance(word, str) for word in listed):
                return tuple(listed)
        return tuple(self.text.split())


@dataclass(frozen=True, slots=True)
class ContextUse:
    """A path pattern that an instruction takes from the build context."""

    source: str
    line: int
    keyword: str


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
    """A parsed Dockerfile. `global_args` are those before the first FROM, with their defaults."""

    name: str
    global_args: tuple[tuple[str, str | None], ...]
    stages: tuple[Stage, ...] = field(default=())

    def stage(self, name: str | None) -> Stage | None:
        """Return the stage of that name (or number), the last one for None; None when there is none."""
        if name is None:
            return self.stages[-1]
        return next((s for s in reversed(self.stages) if name.lower() == s.name or name == str(s.index)), None)

    def declared_args(self) -> frozenset[str]:
        """Return every build argument that some ARG names."""
        return frozenset(name for name, _ in self.global_args) | frozenset(
            name for stage in self.stages for name, _ in stage_args(stage)
        )

    def global_values(self, args: Mapping[str, str]) -> dict[str, str]:
        """Return the values of the ARGs before the first FROM, under the given build arguments."""
        values: dict[str, str] = {}
        for name, default in self.global_args:
            if name in args:
                values[name] = args[name]
            elif default is not None:
                values[name] = expand(default, values)
        return values

    def base_of(self, stage: Stage, args: Mapping[str, str]) -> str:
        """Return what `stage` is FROM, expanded: the name of an earlier stage, `scratch`, or an image reference.

        Raises Unresolved when an argument in it has no value.
        """
        return expand(stage.base, self.global_values(args), strict=True)

    def earlier(self, stage: Stage, name: str) -> Stage | None:
        """Return the stage that `name` means inside `stage`: only those before it can be meant."""
        found = None
        for other in self.stages[: stage.index]:
            if name.lower() == other.name or name == str(other.index):
                found = other
        return found

    def references(self, stage: Stage, args: Mapping[str, str]) -> tuple[tuple[str, int], ...]:
        """Return (expanded name, line) of all that `stage` takes from elsewhere: FROM, --from= and mounts with from=.

        Raises Unresolved when an argument in one has no value.
        """
        found = [(self.base_of(stage, args), stage.line)]
        values = self.global_values(args)
        for instruction in stage.instructions:
            source = instruction.flag("from")
            if instruction.keyword in {"COPY", "ADD"} and source is not None:
                found.append((expand(source, values, strict=True), instruction.line))
            found += [
                (expand(mount["from"], values, strict=True), instruction.line)
                for mount in mounts(instruction)
                if "from" in mount
            ]
        return tuple(found)

    def reach(
        self, target: Stage, args: Mapping[str, str], *, replaced: frozenset[str] = frozenset()
    ) -> tuple[Stage, ...]:
        """Return the stages that building `target` may run, in file order. Stages named in `replaced` are not entered.

        Raises Unresolved when an argument in a reference has no value.
        """
        reached: dict[int, Stage] = {}
        todo = [target]
        while todo:
            stage = todo.pop()
            if stage.index in reached:
                continue
            reached[stage.index] = stage
            for name, _ in self.references(stage, args):
                other = self.earlier(stage, name)
                if other is not None and other.name not in replaced:
                    todo.append(other)
        return tuple(reached[index] for index in sorted(reached))

    def outside(
        self, stages: tuple[Stage, ...], args: Mapping[str, str], replaced: frozenset[str] = frozenset()
    ) -> dict[str, int]:
        """Return the outside images that `stages` refer to, with the line of the first reference.

        Raises Unresolved when an argument in a reference has no value.
        """
        images: dict[str, int] = {}
        for stage in stages:
            for name, line in self.references(stage, args):
                if name != "scratch" and name.lower() not in replaced and self.earlier(stage, name) is None:
                    images.setdefault(name, line)
        return images

    def context_uses(self, stages: tuple[Stage, ...], args: Mapping[str, str]) -> Iterator[ContextUse]:
        """Yield what `stages` take from the build context: COPY and ADD sources, bind mounts. Raises Unresolved."""
        for stage in stages:
            for instruction, values in self.scoped(stage, args):
                if instruction.keyword in {"COPY", "ADD"} and instruction.flag("from") is None:
                    for source in instruction.words()[:-1]:
                        path = expand(source, values, strict=True)
                        if not path.startswith("<<") and not (instruction.keyword == "ADD" and _REMOTE.match(path)):
                            yield ContextUse(_clean(path), instruction.line, instruction.keyword)
                for mount in mounts(instruction):
                    if mount.get("type", "bind") == "bind" and "from" not in mount:
                        source = expand(mount.get("source", mount.get("src", ".")), values, strict=True)
                        yield ContextUse(_clean(source), instruction.line, "RUN --mount")

    def scoped(self, stage: Stage, args: Mapping[str, str]) -> Iterator[tuple[Instruction, dict[str, str]]]:
        """Yield the stage's instructions, each with the ARG and ENV values that hold where it stands."""
        outer = self.global_values(args)
        values: dict[str, str] = {}
        base = self.earlier(stage, expand(stage.base, outer))
        if base is not None:  # ENV and ARG of the stage it is built on hold here too
            inherited = list(self.scoped(base, args))
            values.update(inherited[-1][1] if inherited else {})
        for instruction in stage.instructions:
            if instruction.keyword == "ARG":
                for name, default in arg_words(instruction):
                    if name in args:
                        values[name] = args[name]
                    elif default is not None:
                        values[name] = expand(default, values)
                    elif name in outer:
                        values[name] = outer[name]
            elif instruction.keyword == "ENV":
                for name, value in _env_words(instruction):
                    values[name] = expand(value, values)
            yield instruction, dict(values)


def stage_args(stage: Stage) -> tuple[tuple[str, str | None], ...]:
    """Return the ARGs that a stage declares, with their defaults."""
    return tuple(word for i in stage.instructions if i.keyword == "ARG" for word in arg_words(i))


def mounts(instruction: Instruction) -> Iterator[dict[str, str]]:
    """Yield the options of each `RUN --mount=`."""
    if instruction.keyword == "RUN":
        for name, value in instruction.flags:
            if name == "mount":
                pairs = (part.partition("=") for part in value.split(","))
                yield {key.strip().lower(): val.strip() for key, _, val in pairs}


def _clean(path: str) -> str:
    """Return a context path without leading slash or dots: BuildKit roots every source at the context."""
    parts: list[str] = []
    for part in path.split("/"):
        if part == "..":
            parts = parts[:-1]
        elif part not in {"", "."}:
            parts.append(part)
    return "/".join(parts) or "."


def arg_words(instruction: Instruction) -> Iterator[tuple[str, str | None]]:
    """Yield the names that an ARG declares, each with its default."""
    for word in _split_quoted(instruction.text):
        name, equals, default = word.partition("=")
        yield name, default if equals else None


def _env_words(instruction: Instruction) -> Iterator[tuple[str, str]]:
    words = _split_quoted(instruction.text)
    if words and "=" not in words[0]:  # the old form: ENV name all the rest
        name, _, rest = instruction.text.partition(" ")
        yield name, rest.strip()
        return
    for word in words:
        name, _, value = word.partition("=")
        yield name, value


def _split_quoted(text: str) -> list[str]:
    """Split at blanks outside quotes; quotes and escapes stay for the expansion."""
    words: list[str] = []
    word, quote, escaped = "", "", False
    for char in text:
        if escaped:
            word, escaped = word + char, False
        elif char == "\\" and quote != "'":
            word, escaped = word + char, True
        elif quote:
            word, quote = word + char, "" if char == quote else quote
        elif char in "'\"":
            word, quote = word + char, char
        elif char in " \t\n":
            if word:
                words.append(word)
            word = ""
        else:
            word += char
    return [*words, word] if word else words
