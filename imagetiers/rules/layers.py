"""Rules about layers: what stays in one, what one hides, and the order that decides how much is built again."""

from __future__ import annotations

import posixpath
from collections.abc import Iterator, Sequence
from fnmatch import fnmatchcase
from pathlib import PurePosixPath

from imagetiers.config.model import CompileStep
from imagetiers.dockerfile.heredocs import announced_by
from imagetiers.dockerfile.model import arg_words
from imagetiers.dockerfile.words import variable_names
from imagetiers.inputs.repository import TierInputs
from imagetiers.rules.packages import installs_packages, pip_words
from imagetiers.rules.rule import Rule, Severity, Spot
from imagetiers.rules.subject import StageStep, Subject, lies_in

__all__ = ["RULES"]

_CCACHE_SETTINGS = ("-M", "--max-size", "-F", "--max-files", "-o", "--set-config")
_LINES = 3  # of several, in a message
_WRITERS = frozenset({"tee", "touch"})


def _placed(step: StageStep, inputs: TierInputs) -> Iterator[str]:
    """Yield where the files and folders lie that a COPY or ADD takes."""
    if step.keyword not in {"COPY", "ADD"}:
        return
    *sources, destination = step.instruction.words()
    sources = [source for source in sources if announced_by(source) is None]
    folder = step.path(destination)
    into = destination.endswith("/") or len(sources) > 1
    for source in sources:
        if not into or _is_folder(source, step, inputs):
            yield folder
        yield str(PurePosixPath(folder, PurePosixPath(source).name)) if into else folder


def _is_folder(source: str, step: StageStep, inputs: TierInputs) -> bool:
    """Say whether a source is a folder; of one in another stage only its slash tells."""
    if source.endswith("/") or source in {".", ".."}:
        return True
    if step.instruction.flag("from") is not None:
        return False
    prefix = f"{posixpath.normpath(source.lstrip('/'))}/"
    return any(file.path.startswith(prefix) for file in inputs.files.files)


def _removed(pattern: str, placed: str) -> bool:
    return lies_in(placed, pattern) or fnmatchcase(placed, pattern) or pattern in {f"{placed}/*", f"{placed}/**"}


def _copy_then_remove(subject: Subject) -> Iterator[Spot]:
    placed: list[tuple[StageStep, str]] = []
    told: set[int] = set()
    for step in subject.steps(*subject.shipped):
        for command in step.commands:
            if command.program != "rm":
                continue
            for word in (word for word in command.words[1:] if not word.startswith("-")):
                for copy, path in placed:
                    if copy.line not in told and _removed(step.path(word), path):
                        told.add(copy.line)
                        what = (
                            f"line {step.line} removes {path} again, but the bytes stay in this {copy.keyword}'s layer"
                        )
                        yield copy.line, what
        placed += [(step, path) for path in _placed(step, subject.inputs) if path != "/"]


def _early_arg(subject: Subject) -> Iterator[Spot]:
    escape = subject.inputs.dockerfile.escape
    for stage in subject.stages:
        steps = tuple(subject.steps(stage))
        for at, step in enumerate(steps):
            if step.keyword != "ARG":
                continue
            for name, _ in arg_words(step.instruction, escape):
                first = next((later for later in steps[at + 1 :] if _mentions(later, name)), None)
                between = [each for each in _until(steps[at + 1 :], first) if each.keyword == "RUN"]
                if first is not None and between and step.values.get(name) is not None:
                    lines = ", ".join(str(each.line) for each in between[:_LINES]) + (
                        ", …" if len(between) > _LINES else ""
                    )
                    what = f"ARG {name} is first used in line {first.line}; another value also runs again line {lines}"
                    yield step.line, what


def _until(steps: Sequence[StageStep], first: StageStep | None) -> Iterator[StageStep]:
    for step in steps:
        if step is first:
            return
        yield step


def _mentions(step: StageStep, name: str) -> bool:
    instruction = step.instruction
    if instruction.keyword == "ARG" and any(word == name for word, _ in arg_words(instruction, "\\")):
        return True
    texts = (instruction.text, *(value for _, value in instruction.flags), *(h.content for h in instruction.heredocs))
    return any(name in variable_names(text) for text in texts)


def _volatile_first(subject: Subject) -> Iterator[Spot]:
    for stage in subject.stages:
        copies: list[StageStep] = []
        for step in subject.steps(stage):
            if _takes_many(step, subject):
                copies.append(step)
            installing = next((command for command in step.commands if installs_packages(command)), None)
            if installing is None:
                continue
            for copy in copies:
                folders = [path for path in _placed(copy, subject.inputs) if path != "/"]
                if not _needs(step, folders):
                    shown = " ".join(installing.words[:2])
                    yield (
                        copy.line,
                        f"each change of what this {copy.keyword} takes runs {shown} in line {step.line} again",
                    )
            copies = [] if copies else copies


def _takes_many(step: StageStep, subject: Subject) -> bool:
    """Say whether a COPY takes a folder of the context with several files in it: the sources of a program."""
    if step.keyword not in {"COPY", "ADD"} or step.instruction.flag("from") is not None:
        return False
    *sources, _ = step.instruction.words()
    return any(_is_folder(source, step, subject.inputs) for source in sources if announced_by(source) is None)


def _needs(step: StageStep, folders: list[str]) -> bool:
    """Say whether a RUN uses the files of these folders otherwise than as a list of packages, which one could copy alone."""
    for command in step.commands:
        words = pip_words(command)
        lists = {word for before, word in zip(command.words, command.words[1:], strict=False) if before in {"-r", "-c"}}
        others = tuple(word for word in command.words if word not in lists)
        here = words is not None and any(word.startswith((".", "-e", "--editable", "file:")) for word in others)
        if here or command.program == "cd" or _in(others, step, folders):
            return True
    return False


def _in(words: tuple[str, ...], step: StageStep, folders: list[str]) -> bool:
    paths = [word.rpartition("=")[2] for word in words if not word.startswith("-") or "=" in word]
    absolute = [step.path(path) for path in paths if path.startswith(("/", "./"))]
    return any(lies_in(path, folder) for path in absolute for folder in folders)


def _mounted(step: CompileStep) -> tuple[str, ...]:
    """Return where a compile's container has folders of the host."""
    return (f"/{step.made}", *(("/ccache",) if step.ccache is not None else ()))


def _hidden(subject: Subject) -> Iterator[Spot]:
    told: set[int] = set()
    for stage in subject.stages:
        steps = tuple(subject.steps(*subject.inputs.chain(stage)))
        step_of = subject.inputs.tier.compile
        mounted = _mounted(step_of) if step_of is not None and stage == subject.inputs.compile_stage else ()
        for at, step in enumerate(steps):
            if step.line in told:
                continue
            for path in _written(step, subject.inputs):
                where = next(
                    (later.line for later in steps[at + 1 :] if any(lies_in(path, c) for c in later.caches)), None
                )
                over = any(lies_in(path, folder) for folder in mounted)
                if step.covers(path) or (where is None and not over):
                    continue
                told.add(step.line)
                by = "the folder that a compile mounts there" if where is None else f"the cache mount of line {where}"
                yield step.line, f"{path} is written into a layer, and hidden by {by}"
                break


def _written(step: StageStep, inputs: TierInputs) -> Iterator[str]:
    yield from _placed(step, inputs)
    for command in step.commands:
        if command.writes:
            yield step.path(command.writes)
        if command.program in _WRITERS:
            yield from (step.path(word) for word in command.words[1:] if not word.startswith("-"))
        if command.program == "ccache" and command.has(*_CCACHE_SETTINGS):
            folder = command.variables.get("CCACHE_DIR") or step.values.get("CCACHE_DIR") or "/root/.cache/ccache"
            yield str(PurePosixPath(folder, "ccache.conf"))


def _unread(subject: Subject) -> Iterator[Spot]:
    for stage in subject.stages:
        for step in subject.steps(stage):
            if step.unread:
                yield step.line, f"this RUN {step.unread}, so no rule knows what it does"


RULES = (
    Rule(
        id="copy-then-remove",
        severity=Severity.ERROR,
        title="files that are copied, then removed",
        why="a layer holds what its instruction added, for ever: the image is as large as with the files, and pulls them",
        fix="RUN --mount=type=bind,from=STAGE,target=/wheels pip install … /wheels/*.whl: a mount is in no layer",
        look=_copy_then_remove,
    ),
    Rule(
        id="hidden-by-mount",
        severity=Severity.ERROR,
        title="a file that a cache mount hides",
        why="the step that should read it sees the mount instead, so a limit or setting is never in force",
        fix="say it in the environment (ENV CCACHE_MAXSIZE=25G), or write it in the RUN that has the mount",
        look=_hidden,
    ),
    Rule(
        id="early-arg",
        severity=Severity.WARNING,
        title="an ARG above what it spoils",
        why="every RUN below an ARG has it in its environment, so another value builds all of them again",
        fix="move the ARG down to the line before its first use",
        look=_early_arg,
    ),
    Rule(
        id="volatile-first",
        severity=Severity.WARNING,
        title="what changes often, above what is installed",
        why="each edit of a source file installs all packages again, and every machine pulls those layers again",
        fix="install first: COPY the list of packages alone, RUN the install, then COPY the sources",
        look=_volatile_first,
    ),
    Rule(
        id="unread-shell",
        severity=Severity.ERROR,
        title="a RUN that cannot be read",
        why="what could not be looked at has not passed",
        fix="write it for sh or bash, or move it into a script that the RUN calls",
        look=_unread,
    ),
)
