"""Dockerfiles read as BuildKit reads them, as far as a key needs: stages, arguments, what comes from the context.

Follows BuildKit's parser (moby/buildkit frontend/dockerfile/parser and shell/lex.go): the `escape` directive, line
continuations with comments between them, heredocs, flags, JSON form, ARG scopes and `${x:-y}` expansion. Whatever cannot be
resolved statically is told as a problem, never guessed.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from imagetiers.dockershell import Unresolved, expand
from imagetiers.errors import PipelineError, Problem

__all__ = ["ContextUse", "Dockerfile", "Instruction", "Stage", "parse_dockerfile"]

MAX_BYTES = 1 << 20

# https://docs.docker.com/reference/dockerfile/ : predefined, usable in a stage without ARG or filled in by BuildKit.
PREDEFINED_ARGS = frozenset(
    name
    for upper in ("HTTP_PROXY", "HTTPS_PROXY", "FTP_PROXY", "NO_PROXY", "ALL_PROXY")
    for name in (upper, upper.lower())
) | {"SOURCE_DATE_EPOCH", "BUILDKIT_SYNTAX", "BUILDKIT_CONTEXT_KEEP_GIT_DIR"}
_KEYWORDS = frozenset(
    [
        "ADD",
        "ARG",
        "CMD",
        "COPY",
        "ENTRYPOINT",
        "ENV",
        "EXPOSE",
        "FROM",
        "HEALTHCHECK",
        "LABEL",
        "MAINTAINER",
        "ONBUILD",
        "RUN",
        "SHELL",
        "STOPSIGNAL",
        "USER",
        "VOLUME",
        "WORKDIR",
    ]
)
_WITH_HEREDOC = frozenset({"ADD", "COPY", "RUN"})
_HEREDOC = re.compile(r"<<(-?)\s*([\"']?)([A-Za-z_][A-Za-z0-9_]*)\2")
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
                for name, default in _arg_words(instruction):
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
    return tuple(word for i in stage.instructions if i.keyword == "ARG" for word in _arg_words(i))


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


def _arg_words(instruction: Instruction) -> Iterator[tuple[str, str | None]]:
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


def parse_dockerfile(data: bytes, name: str) -> Dockerfile:
    """Read a Dockerfile; `name` is what messages call it. Raises PipelineError with every problem of its form."""
    problems: list[Problem] = []
    if len(data) > MAX_BYTES:
        raise PipelineError(Problem(name, f"is {len(data):,} bytes long; the limit is {MAX_BYTES:,}", ""))
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise PipelineError(Problem(name, f"byte {error.start} is not UTF-8", "save the file as UTF-8")) from None

    global_args: list[tuple[str, str | None]] = []
    stages: list[Stage] = []
    body: list[Instruction] = []
    for instruction in _instructions(text, name, problems):
        if instruction.keyword == "FROM":
            _close(stages, body)
            _open(stages, instruction, name, problems)
        elif stages:
            body.append(instruction)
        elif instruction.keyword == "ARG":
            global_args.extend(_arg_words(instruction))
        else:
            where = f"{name}:{instruction.line}"
            problems.append(Problem(where, f"{instruction.keyword} before the first FROM", "only ARG may stand there"))
    _close(stages, body)
    if not stages and not problems:
        problems.append(Problem(name, "there is no FROM in it", "a Dockerfile begins with FROM"))
    PipelineError.raise_if(problems)
    return Dockerfile(name, tuple(global_args), tuple(stages))


def _open(stages: list[Stage], instruction: Instruction, name: str, problems: list[Problem]) -> None:
    words = instruction.words()
    where = f"{name}:{instruction.line}"
    named = len(words) == 3 and words[1].lower() == "as"  # noqa: PLR2004  FROM image AS name
    if len(words) != 1 and not named:
        problems.append(Problem(where, "FROM needs one image", "FROM image [AS name]"))
        words = (*words, "scratch")
    stage_name = words[2].lower() if named else ""
    if stage_name and any(stage.name == stage_name for stage in stages):
        problems.append(Problem(where, f"a second stage is called '{stage_name}'", "give each stage its own name"))
    stages.append(Stage(len(stages), stage_name, words[0], instruction.line, instruction.flag("platform")))


def _close(stages: list[Stage], body: list[Instruction]) -> None:
    if stages:
        last = stages[-1]
        stages[-1] = Stage(last.index, last.name, last.base, last.line, last.platform, tuple(body))
    body.clear()


class _Cursor:
    """Walks the lines of a Dockerfile, joining what belongs to one instruction."""

    def __init__(self, text: str) -> None:
        self.lines = text.splitlines()
        self.escape = _escape_directive(self.lines)
        self.number = 0

    def instruction(self) -> tuple[int, str] | None:
        """Return the next instruction's line number and text, continuations joined, or None at the end."""
        self._skip()
        if self.number >= len(self.lines):
            return None
        first, joined = self.number + 1, ""
        while self.number < len(self.lines):
            line = self.lines[self.number].rstrip()
            self.number += 1
            if not line.endswith(self.escape):
                return first, (joined + line).strip()
            joined += line[:-1]
            self._skip()
        return first, joined.strip()

    def heredoc(self, word: str, *, strip_tabs: bool) -> str | None:
        """Return the lines up to `word`, or None when it does not come."""
        body: list[str] = []
        while self.number < len(self.lines):
            line = self.lines[self.number]
            self.number += 1
            if (line.lstrip("\t") if strip_tabs else line) == word:
                return "\n".join(body)
            body.append(line)
        return None

    def _skip(self) -> None:
        while self.number < len(self.lines):
            line = self.lines[self.number].strip()
            if line and not line.startswith("#"):
                return
            self.number += 1


def _instructions(text: str, name: str, problems: list[Problem]) -> Iterator[Instruction]:
    cursor = _Cursor(text)
    while (found := cursor.instruction()) is not None:
        first, line = found
        where = f"{name}:{first}"
        keyword, *after = line.split(maxsplit=1)
        keyword, rest = keyword.upper(), after[0] if after else ""
        heredocs: list[str] = []
        for dash, _, word in _HEREDOC.findall(rest) if keyword in _WITH_HEREDOC else ():
            body = cursor.heredoc(word, strip_tabs=bool(dash))
            if body is None:
                problems.append(Problem(where, f"the heredoc {word} does not end", f"end it with a line {word}"))
            heredocs.append(body or "")
        if keyword not in _KEYWORDS:
            hint = "see docs.docker.com/reference/dockerfile"
            problems.append(Problem(where, f"unknown instruction {keyword}", hint))
            continue
        flags, operands = _flags(rest)
        yield Instruction(keyword, flags, operands, first, tuple(heredocs))


def _escape_directive(lines: list[str]) -> str:
    for line in lines:
        match = re.fullmatch(r"#\s*([a-zA-Z]+)\s*=\s*(\S+)\s*", line.strip())
        if match is None:
            break
        if match[1].lower() == "escape" and match[2] in {"\\", "`"}:
            return match[2]
    return "\\"


def _flags(rest: str) -> tuple[tuple[tuple[str, str], ...], str]:
    flags: list[tuple[str, str]] = []
    while match := re.match(r"--([a-z][a-z-]*)(?:=(\"[^\"]*\"|\S*))?(?:\s+|$)", rest):
        flags.append((match[1], (match[2] or "").strip('"')))
        rest = rest[match.end() :]
    return tuple(flags), rest


__all__ += ["Unresolved", "expand", "mounts", "stage_args"]
