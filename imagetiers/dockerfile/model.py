"""Dockerfiles as values: stages, arguments, which stages a build runs, and what they take from the context.

Scopes and look-ups are BuildKit's (moby/buildkit, frontend/dockerfile/dockerfile2llb). What cannot be resolved raises
Unresolved or LexError, which callers turn into problems. `parser` reads the text.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from imagetiers.dockerfile.context import Patterns, clean
from imagetiers.dockerfile.expand import LexError, Scope, Unresolved, expand
from imagetiers.dockerfile.flags import Flags
from imagetiers.dockerfile.heredocs import announced_by
from imagetiers.dockerfile.mounts import BIND, Mount, parse_mount
from imagetiers.dockerfile.sources import Kind, kind_of
from imagetiers.dockerfile.words import FIELD_BLANKS, json_words, plain_words, quoted_words

__all__ = [
    "ContextUse",
    "Dockerfile",
    "Heredoc",
    "Instruction",
    "LexError",
    "RemoteUse",
    "Stage",
    "Unresolved",
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
class ContextUse:
    """A path or pattern that an instruction takes from the build context."""

    source: str
    line: int
    keyword: str
    patterns: Patterns = Patterns.GO


@dataclass(frozen=True, slots=True)
class RemoteUse:
    """A URL or git repository that an ADD takes; `checksum` is its flag."""

    source: str
    kind: Kind
    line: int
    checksum: str | None


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
class _Held:
    """What holds at a point of a stage: all variables, and those that the image itself will have."""

    scope: Scope
    env: Mapping[str, str | None]


@dataclass(frozen=True, slots=True)
class Dockerfile:
    """A parsed Dockerfile, for one platform. `global_args` are the ARG instructions before the first FROM.

    `syntax` is the outside frontend that the file asks for, None for the engine's own.
    """

    name: str
    platform: str
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

    def automatic_args(self) -> dict[str, str]:
        """Return what BuildKit sets by itself. The builder's own platform is the image's here, and is given as such."""
        system, architecture, *variant = self.platform.split("/")
        parts = {"PLATFORM": self.platform, "OS": system, "ARCH": architecture, "VARIANT": "".join(variant)}
        return {f"{side}{name}": value for side in ("BUILD", "TARGET") for name, value in parts.items()}

    def global_scope(self, args: Mapping[str, str]) -> Scope:
        """Return the variables that FROM lines see, under the given build arguments."""
        values: dict[str, str | None] = dict(self.automatic_args())
        blank: set[str] = set()
        for name, default in self.global_words():
            if name in args:
                values[name] = args[name]
            elif default is not None:
                values[name] = _known(default, Scope(dict(values), frozenset(blank)), self.escape)
            elif name not in values:
                blank.add(name)
                continue
            blank.discard(name)
        return Scope(values, frozenset(blank))

    def global_values(self, args: Mapping[str, str]) -> dict[str, str]:
        """Return the values of the ARGs before the first FROM, and the automatic ones, as far as they are known."""
        return {name: value for name, value in self.global_scope(args).values.items() if value is not None}

    def base_of(self, stage: Stage, args: Mapping[str, str]) -> str:
        """Return what `stage` is FROM, expanded: the name of an earlier stage, `scratch`, or an image reference.

        Raises Unresolved when an argument in it has no value.
        """
        return expand(stage.base, self.global_scope(args), self.escape)

    def platform_of(self, stage: Stage, args: Mapping[str, str]) -> str | None:
        """Return the platform of what `stage` is FROM, expanded; None: the build's. Raises Unresolved."""
        return None if stage.platform is None else expand(stage.platform, self.global_scope(args), self.escape)

    def earlier(self, stage: Stage, name: str, *, numbers: bool = False) -> Stage | None:
        """Return the stage that `name` means inside `stage`: only those before it can be meant.

        `numbers`: whether a number means a stage, which it does in `COPY --from=` alone.
        """
        for other in self.stages[: stage.index]:
            if (other.name and name.lower() == other.name) or (numbers and name == str(other.index)):
                return other
        return None

    def references(self, stage: Stage, args: Mapping[str, str]) -> tuple[Reference, ...]:
        """Return all that `stage` takes from elsewhere: FROM, `COPY --from=` and mounts with `from=`.

        Raises Unresolved when an argument in one has no value.
        """
        base = self.base_of(stage, args)
        found = [Reference(base, stage.line, self.earlier(stage, base))]
        for instruction in stage.instructions:
            origin = instruction.flag("from")
            if instruction.keyword == "COPY" and origin is not None:
                found.append(Reference(origin, instruction.line, self.earlier(stage, origin, numbers=True)))
            found += [
                Reference(mount.origin, instruction.line, self.earlier(stage, mount.origin))
                for mount in mounts(instruction)
                if mount.origin is not None
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
            stages = (reference.stage for reference in self.references(stage, args))
            todo += [stage for stage in stages if stage is not None and stage.name not in replaced]
        return tuple(reached[index] for index in sorted(reached))

    def outside(
        self, stages: tuple[Stage, ...], args: Mapping[str, str], replaced: frozenset[str] = frozenset()
    ) -> dict[str, int]:
        """Return the outside images that `stages` refer to, with the line of the first reference.

        Raises Unresolved when an argument in a reference has no value.
        """
        images: dict[str, int] = {}
        for stage in stages:
            for reference in self.references(stage, args):
                name = reference.name
                if name != SCRATCH and name.lower() not in replaced and reference.stage is None:
                    images.setdefault(name, reference.line)
        return images

    def context_uses(self, stages: tuple[Stage, ...], args: Mapping[str, str]) -> Iterator[ContextUse]:
        """Yield what `stages` take from the build context: COPY and ADD sources, bind mounts.

        Raises Unresolved or LexError.
        """
        for stage in stages:
            for instruction, scope in self.scoped(stage, args):
                if instruction.keyword in {"COPY", "ADD"} and instruction.flag("from") is None:
                    for source in self._sources(instruction, scope):
                        if kind_of(source) is Kind.PATH:
                            yield ContextUse(
                                _rooted(source), instruction.line, instruction.keyword, _patterns(instruction)
                            )
                for mount in mounts(instruction):
                    if mount.origin is None and expand(mount.type, scope, self.escape).lower() == BIND:
                        source = _rooted(expand(mount.source, scope, self.escape))
                        yield ContextUse(source, instruction.line, "RUN --mount", Patterns.NONE)

    def remote_uses(self, stages: tuple[Stage, ...], args: Mapping[str, str]) -> Iterator[RemoteUse]:
        """Yield the URLs and repositories that `stages` take. Raises Unresolved or LexError."""
        for stage in stages:
            for instruction, scope in self.scoped(stage, args):
                if instruction.keyword not in {"COPY", "ADD"} or instruction.flag("from") is not None:
                    continue
                for source in self._sources(instruction, scope):
                    kind = kind_of(source)
                    if kind is not Kind.PATH:
                        checksum = instruction.flag("checksum")
                        value = None if checksum is None else expand(checksum, scope, self.escape)
                        yield RemoteUse(source, kind, instruction.line, value)

    def _sources(self, instruction: Instruction, scope: Scope) -> Iterator[str]:
        """Yield the sources of a COPY or ADD, variables replaced, heredocs left out."""
        for word in instruction.words()[:-1]:
            if announced_by(word) is None:
                yield expand(word, scope, self.escape)

    def scoped(self, stage: Stage, args: Mapping[str, str]) -> Iterator[tuple[Instruction, Scope]]:
        """Yield the stage's instructions, each with the variables that hold where it stands. Raises Unresolved."""
        for instruction, held in self._walk(stage, args):
            yield instruction, held.scope

    def _held_at_end(self, stage: Stage, args: Mapping[str, str]) -> _Held:
        held = self._begin(stage, args)
        for instruction in stage.instructions:
            held = self._after(instruction, held, args)
        return held

    def _begin(self, stage: Stage, args: Mapping[str, str]) -> _Held:
        name = self.base_of(stage, args)
        base = self.earlier(stage, name)
        if base is None:
            return _Held(Scope({"PATH": None}, open=name != SCRATCH), {"PATH": None})
        held = self._held_at_end(base, args)
        # ENV of the base holds again here, also over an ARG that came after it there.
        return _Held(Scope({**held.scope.values, **held.env}, open=held.scope.open), held.env)

    def _walk(self, stage: Stage, args: Mapping[str, str]) -> Iterator[tuple[Instruction, _Held]]:
        held = self._begin(stage, args)
        for instruction in stage.instructions:
            held = self._after(instruction, held, args)
            yield instruction, held

    def _after(self, instruction: Instruction, held: _Held, args: Mapping[str, str]) -> _Held:
        """Return what holds behind an ARG or ENV; any other instruction changes nothing."""
        before = held.scope
        if instruction.keyword == "ENV":
            new = {
                expand(name, before, self.escape): _known(value, before, self.escape)
                for name, value in env_words(instruction, self.escape)
            }
            return _Held(Scope({**before.values, **new}, open=before.open), {**held.env, **new})
        if instruction.keyword != "ARG":
            return held
        outer = self.global_scope(args)
        new = {}
        for name, default in arg_words(instruction, self.escape):
            if name in args:
                new[name] = args[name]
            elif default is not None:
                # Whether a default sees the arguments before it on its own line is another thing in each version.
                seen = Scope({**before.values, **dict.fromkeys(new)}, open=before.open)
                new[name] = _known(default, seen, self.escape)
            elif name in outer.values:
                new[name] = outer.values[name]
        return _Held(Scope({**before.values, **new}, open=before.open), held.env)


@dataclass(frozen=True, slots=True)
class Reference:
    """A stage or image that a stage takes from: the name as written (expanded), the line, and the stage it means."""

    name: str
    line: int
    stage: Stage | None


def _known(text: str, scope: Scope, escape: str) -> str | None:
    """Return an expanded value, None for one that nobody can tell."""
    try:
        return expand(text, scope, escape)
    except (Unresolved, LexError):
        return None


def _rooted(source: str) -> str:
    """Return a source as it is looked up: from the context's root."""
    return "/".join(clean(source)) or "."


def _patterns(instruction: Instruction) -> Patterns:
    parents = instruction.flag("parents")
    return Patterns.GO if parents is None or parents.lower() == "false" else Patterns.DEEP


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
