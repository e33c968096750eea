"""What each instruction may hold: its flags, how many operands, which forms.

Source: moby/buildkit, frontend/dockerfile/instructions/parse.go.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from imagetiers.dockerfile.expand import LexError
from imagetiers.dockerfile.heredocs import announced_by
from imagetiers.dockerfile.model import Instruction, arg_words, env_words, mounts
from imagetiers.dockerfile.words import json_words, plain_words

__all__ = ["HEREDOC_KEYWORDS", "KEYWORDS", "check_instruction"]

_STRING, _BOOL, _MANY = "string", "bool", "many"
_COPY = {"chown": _STRING, "chmod": _STRING, "link": _BOOL, "exclude": _MANY}
_FLAGS: Mapping[str, Mapping[str, str]] = {
    "ADD": {**_COPY, "keep-git-dir": _BOOL, "checksum": _STRING, "unpack": _BOOL},
    "COPY": {**_COPY, "from": _STRING, "parents": _BOOL},
    "FROM": {"platform": _STRING},
    "HEALTHCHECK": dict.fromkeys(["interval", "timeout", "start-period", "start-interval", "retries"], _STRING),
    "RUN": {"mount": _MANY, "network": _STRING, "security": _STRING, "device": _MANY},
}
_ANY_TEXT = frozenset({"CMD", "ENTRYPOINT"})
KEYWORDS = frozenset(
    {
        "EXPOSE",
        "RUN",
        "STOPSIGNAL",
        "CMD",
        "ADD",
        "ENTRYPOINT",
        "SHELL",
        "FROM",
        "USER",
        "ARG",
        "VOLUME",
        "MAINTAINER",
        "HEALTHCHECK",
        "LABEL",
        "COPY",
        "ONBUILD",
        "WORKDIR",
        "ENV",
    }
)
HEREDOC_KEYWORDS = frozenset({"ADD", "COPY", "RUN"})
_SOURCE_AND_DESTINATION = 2
_NETWORKS = ("default", "none", "host")
_DURATION = re.compile(r"\+?(?:0|(?:(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:ns|us|\u00b5s|\u03bcs|ms|s|m|h))+)")  # Go's
_COUNT = re.compile(r"\+?[0-9]{1,9}")
_EMPTY_PATTERN = re.compile(r"\$\{\w+:?[#%]\}")


def check_instruction(instruction: Instruction, escape: str) -> None:
    """Check the form of an instruction. Raises LexError, which says what is wrong with it."""
    _check_flags(instruction)
    keyword, text = instruction.keyword, instruction.text
    if empty := _EMPTY_PATTERN.search(text):
        raise LexError(f"the pattern in {empty[0]} is empty", "remove it: the daemon of Docker 26 crashes on it")
    if not text and keyword not in _ANY_TEXT:
        raise LexError("there is nothing behind it")
    if keyword == "ARG":
        list(arg_words(instruction, escape))
    elif keyword in {"ENV", "LABEL"}:
        list(env_words(instruction, escape))
    elif keyword in {"COPY", "ADD"}:
        _check_copy(instruction)
    elif keyword == "RUN":
        if instruction.words() == ():
            raise LexError("there is nothing behind it")
        list(mounts(instruction))
    elif keyword == "SHELL" and not json_words(text):
        raise LexError('takes the JSON form only: SHELL ["/bin/sh", "-c"]')
    elif keyword == "HEALTHCHECK":
        _check_health(instruction)


def _check_flags(instruction: Instruction) -> None:
    known = _FLAGS.get(instruction.keyword, {})
    seen: set[str] = set()
    for name, value in instruction.flags:
        kind = known.get(name)
        if kind is None:
            raise LexError(f"there is no flag --{name}" + (f", only --{', --'.join(known)}" if known else ""))
        if name in seen and kind != _MANY:
            raise LexError(f"--{name} stands twice")
        seen.add(name)
        if kind == _BOOL and value.lower() not in {"", "true", "false"}:
            raise LexError(f"--{name} is true or false, not '{value}'")
        if kind != _BOOL and not value:
            raise LexError(f"--{name} needs a value")
        if name == "network" and value not in _NETWORKS:
            raise LexError(f"--network is {', '.join(_NETWORKS)}, not '{value}'")


def _check_health(instruction: Instruction) -> None:
    kind, *command = plain_words(instruction.text)
    if kind.upper() not in {"CMD", "NONE"}:
        raise LexError("needs CMD and a command, or NONE")
    if (kind.upper() == "CMD") != bool(command):
        raise LexError("NONE has nothing behind it, and CMD a command")
    for name, value in instruction.flags:
        known = _COUNT if name == "retries" else _DURATION
        if not known.fullmatch(value):
            raise LexError(f"--{name}={value} is not a " + ("number" if name == "retries" else "duration, such as 30s"))


def _check_copy(instruction: Instruction) -> None:
    words = instruction.words()
    if len(words) < _SOURCE_AND_DESTINATION:
        raise LexError("needs at least a source and a destination")
    if announced_by(words[-1]) is not None:
        raise LexError("a heredoc cannot be the destination")
    names = {heredoc.name for heredoc in instruction.heredocs}
    if any(found.name not in names for word in words[:-1] if (found := announced_by(word)) is not None):
        raise LexError("a heredoc's name cannot hold blanks, and a JSON array no heredoc")
    origin = instruction.flag("from")
    if origin is not None and (set("\"'$\\`") & set(origin)):
        raise LexError(f"--from={origin} takes no variables, quotes or escapes", "give the stage a name, and use that")
