"""A Dockerfile under given build arguments: which stages a build runs, and what they take from elsewhere.

Scopes and look-ups are BuildKit's (moby/buildkit, frontend/dockerfile/dockerfile2llb). What cannot be resolved raises
Unresolved or LexError, which callers turn into problems.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property

from imagetiers.dockerfile.context import Patterns, clean
from imagetiers.dockerfile.expand import LexError, Scope, Unresolved, expand
from imagetiers.dockerfile.heredocs import announced_by
from imagetiers.dockerfile.model import (
    SCRATCH,
    Dockerfile,
    Instruction,
    Stage,
    arg_words,
    env_words,
    mounts,
    stage_args,
)
from imagetiers.dockerfile.mounts import BIND
from imagetiers.dockerfile.sources import SourceKind, kind_of

__all__ = ["ContextUse", "Reading", "Reference", "RemoteUse"]


@dataclass(frozen=True, slots=True)
class Reference:
    """A stage or image that a stage takes from: the name (expanded), the line, and the earlier stage that it means."""

    name: str
    line: int
    stage: Stage | None


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
    kind: SourceKind
    line: int
    checksum: str | None


@dataclass(frozen=True, slots=True)
class _Held:
    """What holds at a point of a stage: all variables, and those that the image itself will have."""

    scope: Scope
    env: Mapping[str, str | None]


@dataclass(frozen=True)
class Reading:
    """A Dockerfile, the build arguments that it gets, and the platform of the image (`linux/amd64`)."""

    dockerfile: Dockerfile
    args: Mapping[str, str]
    platform: str
    _walks: dict[int, tuple[tuple[Instruction, _Held], ...]] = field(default_factory=dict, init=False, compare=False)
    _references: dict[int, tuple[Reference, ...]] = field(default_factory=dict, init=False, compare=False)

    @cached_property
    def global_scope(self) -> Scope:
        """The variables that FROM lines see: the ARGs before the first FROM, and the automatic ones."""
        values: dict[str, str | None] = dict(_automatic(self.platform))
        blank: set[str] = set()
        for name, default in self.dockerfile.global_words():
            if name in self.args:
                values[name] = self.args[name]
            elif default is not None:
                values[name] = _known(default, Scope(dict(values), frozenset(blank)), self.dockerfile.escape)
            elif name not in values:
                blank.add(name)
                continue
            blank.discard(name)
        return Scope(values, frozenset(blank))

    def base_of(self, stage: Stage) -> str:
        """Return what `stage` is FROM, expanded: the name of an earlier stage, `scratch`, or an image reference.

        Raises Unresolved when an argument in it has no value.
        """
        return self._expand(stage.base, self.global_scope, stage.line)

    def platform_of(self, stage: Stage) -> str | None:
        """Return the platform of what `stage` is FROM, expanded; None: the build's. Raises Unresolved."""
        return None if stage.platform is None else self._expand(stage.platform, self.global_scope, stage.line)

    def references(self, stage: Stage) -> tuple[Reference, ...]:
        """Return all that `stage` takes from elsewhere: FROM first, then `COPY --from=` and mounts with `from=`.

        Raises Unresolved when an argument in FROM has no value.
        """
        found = self._references.get(stage.index)
        if found is None:
            found = self._references[stage.index] = tuple(self._find_references(stage))
        return found

    def _find_references(self, stage: Stage) -> Iterator[Reference]:
        dockerfile = self.dockerfile
        base = self.base_of(stage)
        # FROM alone minds capitals: stages have none, so a name with one is an image.
        yield Reference(base, stage.line, dockerfile.earlier(stage, base) if base == base.lower() else None)
        for instruction in stage.instructions:
            origin = instruction.flag("from")
            if instruction.keyword == "COPY" and origin is not None:
                yield Reference(origin, instruction.line, dockerfile.earlier(stage, origin, numbers=True))
            for mount in mounts(instruction):
                if mount.origin is not None:
                    yield Reference(mount.origin, instruction.line, dockerfile.earlier(stage, mount.origin))

    def reach(self, target: Stage, *, replaced: frozenset[str] = frozenset()) -> tuple[Stage, ...]:
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
            stages = (reference.stage for reference in self.references(stage))
            todo += [stage for stage in stages if stage is not None and stage.name not in replaced]
        return tuple(reached[index] for index in sorted(reached))

    def outside(self, stages: tuple[Stage, ...], replaced: frozenset[str] = frozenset()) -> dict[str, int]:
        """Return the outside images that `stages` refer to, with the line of the first reference.

        Raises Unresolved when an argument in a reference has no value.
        """
        images: dict[str, int] = {}
        for reference in (reference for stage in stages for reference in self.references(stage)):
            name = reference.name
            if name != SCRATCH and name.lower() not in replaced and reference.stage is None:
                images.setdefault(name, reference.line)
        return images

    def inherited(self, stages: tuple[Stage, ...]) -> dict[str, str]:
        """Return what the stages' ARGs without a default take from before the first FROM, or from BuildKit itself."""
        declared = (word for stage in stages for word in stage_args(stage, self.dockerfile.escape))
        names = sorted({name for name, default in declared if default is None and name not in self.args})
        values = {name: self.global_scope.values.get(name) for name in names}
        return {name: value for name, value in values.items() if value is not None}

    def context_uses(self, stages: tuple[Stage, ...], name: str | None = None) -> Iterator[ContextUse]:
        """Yield what `stages` take from the build context, or the named one: COPY and ADD sources, mounts, FROM.

        Raises Unresolved or LexError.
        """
        for stage in stages if name is not None else ():
            if self.base_of(stage) == name:
                yield ContextUse(".", stage.line, "FROM", Patterns.NONE)
        for instruction, scope in self.scoped(stages):
            line = instruction.line
            for source, kind in self._sources(instruction, scope, name):
                if kind is SourceKind.PATH:
                    yield ContextUse(_rooted(source), line, instruction.keyword, _patterns(instruction))
            for mount in mounts(instruction):
                binds = name is not None or self._expand(mount.type, scope, line).lower() == BIND
                if mount.origin == name and binds:
                    source = _rooted(self._expand(mount.source, scope, line))
                    yield ContextUse(source, line, "RUN --mount", Patterns.NONE)

    def remote_uses(self, stages: tuple[Stage, ...]) -> Iterator[RemoteUse]:
        """Yield the URLs and repositories that `stages` take. Raises Unresolved or LexError."""
        for instruction, scope in self.scoped(stages):
            for source, kind in self._sources(instruction, scope):
                if kind is not SourceKind.PATH:
                    checksum = instruction.flag("checksum")
                    value = None if checksum is None else self._expand(checksum, scope, instruction.line)
                    yield RemoteUse(source, kind, instruction.line, value)

    def _sources(
        self, instruction: Instruction, scope: Scope, origin: str | None = None
    ) -> Iterator[tuple[str, SourceKind]]:
        """Yield what a COPY or ADD takes from the build context, or from `origin`: variables replaced, heredocs left out."""
        if instruction.keyword in {"COPY", "ADD"} and instruction.flag("from") == origin:
            for word in instruction.words()[:-1]:
                if announced_by(word) is None:
                    source = self._expand(word, scope, instruction.line)
                    with _at(instruction.line):
                        kind = kind_of(source)
                    yield source, kind

    def _expand(self, word: str, scope: Scope, line: int) -> str:
        with _at(line):
            return expand(word, scope, self.dockerfile.escape)

    def scoped(self, stages: tuple[Stage, ...]) -> Iterator[tuple[Instruction, Scope]]:
        """Yield the stages' instructions, each with the variables that hold where it stands. Raises Unresolved."""
        for stage in stages:
            for instruction, held in self._walk(stage):
                yield instruction, held.scope

    def env_of(self, stage: Stage) -> Mapping[str, str | None]:
        """Return the variables that an image of `stage` has of its own instructions; None: set, but to what is not known."""
        steps = self._walk(stage)
        return steps[-1][1].env if steps else self._begin(stage).env

    def _walk(self, stage: Stage) -> tuple[tuple[Instruction, _Held], ...]:
        found = self._walks.get(stage.index)
        if found is None:
            steps: list[tuple[Instruction, _Held]] = []
            held = self._begin(stage)
            for instruction in stage.instructions:
                held = self._after(instruction, held)
                steps.append((instruction, held))
            found = self._walks[stage.index] = tuple(steps)
        return found

    def _begin(self, stage: Stage) -> _Held:
        base = self.references(stage)[0]
        if base.stage is None:
            return _Held(Scope({"PATH": None}, open=base.name != SCRATCH), {"PATH": None})
        steps = self._walk(base.stage)
        held = steps[-1][1] if steps else self._begin(base.stage)
        # ENV of the base holds again here, also over an ARG that came after it there.
        return _Held(Scope({**held.scope.values, **held.env}, open=held.scope.open), held.env)

    def _after(self, instruction: Instruction, held: _Held) -> _Held:
        """Return what holds behind an ARG or ENV; any other instruction changes nothing."""
        before, escape = held.scope, self.dockerfile.escape
        new: dict[str, str | None] = {}
        if instruction.keyword == "ENV":
            for name, value in env_words(instruction, escape):
                new[self._expand(name, before, instruction.line)] = _known(value, before, escape)
            return _Held(Scope({**before.values, **new}, open=before.open), {**held.env, **new})
        if instruction.keyword != "ARG":
            return held
        for name, default in arg_words(instruction, escape):
            if name in self.args:
                new[name] = self.args[name]
            elif default is not None:
                # Whether a default sees the arguments before it on its own line is another thing in each version.
                new[name] = _known(default, Scope({**before.values, **dict.fromkeys(new)}, open=before.open), escape)
            elif name in self.global_scope.values:
                new[name] = self.global_scope.values[name]
        return _Held(Scope({**before.values, **new}, open=before.open), held.env)


@contextmanager
def _at(line: int) -> Iterator[None]:
    """Let what is raised say where it was met."""
    try:
        yield
    except (Unresolved, LexError) as error:
        error.line = error.line or line
        raise


def _automatic(platform: str) -> dict[str, str]:
    """Return what BuildKit sets by itself. The builder's platform is taken for the image's, and is sent as such."""
    system, architecture, *variant = platform.split("/")
    parts = {"PLATFORM": platform, "OS": system, "ARCH": architecture, "VARIANT": "".join(variant)}
    return {f"{side}{name}": value for side in ("BUILD", "TARGET") for name, value in parts.items()}


def _known(text: str, scope: Scope, escape: str) -> str | None:
    """Return an expanded value, None for one that nobody knows."""
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
