"""What the rules look at: the stages of a tier that are built, with each RUN as the commands of its shell."""

from __future__ import annotations

import posixpath
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import PurePosixPath

from imagetiers.dockerfile.expand import LexError, Scope, Unresolved, expand, lex_words
from imagetiers.dockerfile.heredocs import announced_by
from imagetiers.dockerfile.model import Instruction, Stage, mounts
from imagetiers.dockerfile.words import json_words
from imagetiers.inputs.repository import TierInputs
from imagetiers.rules.shell import Command, ShellError, command_of, read_script

__all__ = ["Inherited", "StageStep", "Subject", "lies_in"]

_SHELL = ("/bin/sh", "-c")
_READ = frozenset({"sh", "bash", "dash", "ash"})


@dataclass(frozen=True, slots=True)
class Inherited:
    """What an image hands on to those built FROM it. `user` None: none of its instructions names one."""

    user: str | None = None
    has_health: bool = False
    shell: tuple[str, ...] = _SHELL
    env: Mapping[str, str | None] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class StageStep:
    """An instruction where it stands: variables that are known there, the working directory, and of a RUN its commands.

    `user` is whom a USER names. `caches` are the folders over which it mounts a cache, `covered` those over which it
    mounts anything that no layer keeps. `unread` says why its commands are not known.
    """

    instruction: Instruction
    values: Mapping[str, str | None]
    workdir: str
    user: str = ""
    commands: tuple[Command, ...] = ()
    caches: tuple[str, ...] = ()
    covered: tuple[str, ...] = ()
    unread: str = ""

    @property
    def line(self) -> int:
        """The line of the instruction."""
        return self.instruction.line

    @property
    def keyword(self) -> str:
        """The keyword of the instruction."""
        return self.instruction.keyword

    def path(self, word: str) -> str:
        """Return a path as the step means it: from the root."""
        return posixpath.normpath(PurePosixPath("/", self.workdir, word))

    def covers(self, path: str) -> bool:
        """Say whether a mount lies over a path, so that what is written there is in no layer."""
        return any(lies_in(path, folder) for folder in self.covered)


@dataclass(frozen=True)
class Subject:
    """A tier under the rules. `shared` says whether its images leave this machine, `pins` what pins outside images."""

    inputs: TierInputs
    parents: Inherited
    pins: Mapping[str, str]
    shared: bool
    _steps: dict[int, tuple[StageStep, ...]] = field(default_factory=dict, init=False, compare=False)

    @cached_property
    def stages(self) -> tuple[Stage, ...]:
        """The stages that are built for the image or for its compile, in the order of the file."""
        reading = self.inputs.reading
        found = set(reading.reach(self.inputs.target, replaced=self.inputs.replaced))
        if self.inputs.tier.compile is not None:
            found |= set(reading.reach(self.inputs.compile_stage))
        return tuple(sorted(found, key=lambda stage: stage.index))

    @cached_property
    def shipped(self) -> tuple[Stage, ...]:
        """The stages whose layers the image has, the first one first."""
        return self.inputs.chain(self.inputs.target)

    def steps(self, *stages: Stage) -> Iterator[StageStep]:
        """Yield the steps of stages in turn."""
        for stage in stages:
            if stage.index not in self._steps:
                self._steps[stage.index] = tuple(self._walk(stage))
            yield from self._steps[stage.index]

    def handed_on(self) -> Inherited:
        """Return what the tier's image hands on."""
        before = self._before(self.inputs.target)
        user, has_health, shell = before.user, before.has_health, before.shell
        for step in self.steps(*self.shipped):
            if step.keyword == "USER":
                user = step.user
            elif step.keyword == "HEALTHCHECK":
                has_health = step.instruction.text.split()[0].upper() == "CMD"
            elif step.keyword == "SHELL":
                shell = json_words(step.instruction.text) or _SHELL
        env = {**before.env, **self.inputs.reading.env_of(self.inputs.target)}
        return Inherited(user, has_health, shell, {name: value for name, value in env.items() if value is not None})

    def _before(self, stage: Stage) -> Inherited:
        """Return what a stage takes over from the image that its first stage is FROM, where that is the parent's."""
        first = self.inputs.reading.references(self.inputs.chain(stage)[0])[0]
        return self.parents if first.name == self.inputs.parent else Inherited()

    def _walk(self, stage: Stage) -> Iterator[StageStep]:
        before = self._before(stage)
        shell, workdir = before.shell, "/"
        for earlier in self.steps(*self.inputs.chain(stage)[:-1]):
            shell, workdir = _after(earlier, shell), earlier.workdir
        for instruction, scope in self.inputs.reading.scoped((stage,)):
            values = {**before.env, **{name: value for name, value in scope.values.items() if value is not None}}
            escape = self.inputs.dockerfile.escape
            if instruction.keyword == "WORKDIR":
                workdir = posixpath.normpath(PurePosixPath(workdir, _expanded(instruction.text, scope, escape)))
            user = _expanded(instruction.text, scope, escape) if instruction.keyword == "USER" else ""
            step = StageStep(instruction, values, workdir, user)
            if instruction.keyword == "RUN":
                step = _run(step, shell, scope, escape)
            shell = _after(step, shell)
            yield step


def _after(step: StageStep, shell: tuple[str, ...]) -> tuple[str, ...]:
    return (json_words(step.instruction.text) or shell) if step.keyword == "SHELL" else shell


def _run(step: StageStep, shell: tuple[str, ...], scope: Scope, escape: str) -> StageStep:
    caches: list[str] = []
    covered: list[str] = []
    for mount in mounts(step.instruction):
        kind, target = (_expanded(text, scope, escape) for text in (mount.type, mount.target))
        if target and kind.lower() in {"bind", "cache", "tmpfs"}:
            covered.append(step.path(target))
        if target and kind.lower() == "cache":
            caches.append(step.path(target))
    commands: tuple[Command, ...] = ()
    unread = ""
    try:
        commands = _commands(step, shell)
    except ShellError as error:
        unread = str(error)
    return replace(step, commands=commands, caches=tuple(caches), covered=tuple(covered), unread=unread)


def _commands(step: StageStep, shell: tuple[str, ...]) -> tuple[Command, ...]:
    """Return the commands of a RUN. Raises ShellError."""
    listed = json_words(step.instruction.text)
    if listed is not None:
        return command_of(listed)
    if PurePosixPath(shell[0]).name not in _READ:
        raise ShellError(f"is for {shell[0]}, which is no shell that is read here")
    text, heredocs = step.instruction.text, step.instruction.heredocs
    if not heredocs:
        return read_script(text, step.values)
    words = [word for word in lex_words(text, raw=True) if announced_by(word) is None]
    if not words:  # the heredoc is the script
        script = heredocs[0].content
        first, _, _ = script.partition("\n")
        if first.startswith("#!") and PurePosixPath(first.split()[-1]).name not in _READ:
            return (Command((first[2:].split()[-1],)),)  # a program of its own, like those that a RUN calls
        return read_script(script, step.values)
    commands = read_script(" ".join(words), step.values)
    if any(command.program in _READ for command in commands):  # which reads it from its stdin
        commands += tuple(each for heredoc in heredocs for each in read_script(heredoc.content, step.values))
    return commands


def _expanded(text: str, scope: Scope, escape: str) -> str:
    """Return a text with its variables replaced; as it stands where one of them is not known."""
    try:
        return expand(text, scope, escape)
    except (Unresolved, LexError):
        return text


def lies_in(path: str, folder: str) -> bool:
    """Say whether a path is a folder, or lies somewhere in it."""
    return path == folder or path.startswith(f"{folder.rstrip('/')}/")
