"""The options of doit's tasks: a wrong value is reported before anything runs, with exit code 3, as a misspelt option is.

A type reads the text of an option. It raises ValueError, whose text is what is wrong and, on a line `  hint: …`, the cure:
doit passes that on as it is, and `doit_plugins` makes a Problem of it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from doit import get_initial_workdir
from doit.exceptions import InvalidDodoFile

from imagetiers.config.quantities import parse_age, parse_duration, parse_size
from imagetiers.errors import Problem
from imagetiers.visible import visible

__all__ = [
    "age",
    "duration",
    "form",
    "number",
    "option",
    "refused",
    "size",
    "split_hint",
    "string",
    "switch",
    "where_called",
    "words",
]

Type = Callable[[str], Any]
_HINT = "\n  hint: "
_DIGITS = 9
_SHOWN = 60  # characters of a value in a message


def refused(problems: Iterable[Problem], what: str) -> InvalidDodoFile:
    """Return what ends doit with exit code 3 and these problems, of `what` (`the pipeline`)."""
    listed = tuple(problems)
    count = "one problem" if len(listed) == 1 else f"{len(listed)} problems"
    return InvalidDodoFile(visible("\n".join([f"{count} in {what}; nothing was run", *map(str, listed)])))


def switch(name: str, help_: str) -> dict[str, Any]:
    """Return an option without a value."""
    return {"name": name.replace("-", "_"), "long": name, "type": bool, "default": False, "help": help_}


def option(name: str, help_: str, type_: Type, *, default: object) -> dict[str, Any]:
    """Return an option whose value `type_` reads; `default` is what the task gets without it, as it is."""
    return {"name": name.replace("-", "_"), "long": name, "type": type_, "default": default, "help": help_}


def split_hint(told: str) -> tuple[str, str]:
    """Return what a type said was wrong, and the cure."""
    what, _, hint = told.strip("\n").partition(_HINT)
    return what, hint


def _wrong(what: str, hint: str) -> ValueError:
    return ValueError(f"{what}{_HINT}{hint}")


def number(least: int, most: int = 10**_DIGITS - 1) -> Type:
    """Return the type of a whole number between two others."""

    def read(value: str) -> int:
        if not re.fullmatch(r"-?[0-9]+", value, re.ASCII):
            raise _wrong(f"'{value[:_SHOWN]}' is not a whole number", f"write a number, {least:,} or more")
        found = int(value[: _DIGITS + 2])  # one digit more than there may be says enough
        if found < least:
            raise _wrong(f"{found:,} is too small", f"write {least:,} or more")
        if found > most:
            raise _wrong(f"{value[:_SHOWN]} is too large", f"write {most:,} or less")
        return found

    return read


def size(value: str) -> int:
    """Read bytes: 20G, 500M. Raises ValueError."""
    try:
        return parse_size(value)
    except ValueError:
        raise _wrong(f"'{value[:_SHOWN]}' is not a size", "write 20G or 500M") from None


def duration(value: str) -> int:
    """Read seconds: 3h30m, 45m, 90s; at least one. Raises ValueError."""
    try:
        seconds = parse_duration(value)
    except ValueError:
        raise _wrong(f"'{value[:_SHOWN]}' is not a duration", "write 3h30m, 45m or 90s") from None
    if not seconds:
        raise _wrong(f"'{value[:_SHOWN]}' is no time at all", "write 3h30m, 45m or 90s")
    return seconds


def age(value: str) -> int:
    """Read how long ago: 30d, 12h; at least an hour. Raises ValueError."""
    try:
        seconds = parse_age(value)
    except ValueError:
        seconds = 0
    if not seconds:
        raise _wrong(f"'{value[:_SHOWN]}' is no age", "write 30d, 12h or 1d12h")
    return seconds


def string(what: str, hint: str) -> Type:
    """Return the type of a string that must not be empty, as it is where a shell's variable is not set."""

    def read(value: str) -> str:
        if not value:
            raise _wrong(what, hint)
        return value

    return read


def words(value: str) -> tuple[str, ...]:
    """Read a command as words, quoted as for a shell that nobody runs. Raises ValueError."""
    import shlex

    hint = "such as --run 'python -m arr'"
    try:
        found = tuple(shlex.split(value))
    except ValueError as error:
        raise _wrong(f"'{value[:_SHOWN]}' cannot be split into words: {str(error).lower()}", hint) from None
    if not found:
        raise _wrong("names no command", hint)
    return found


def form(pattern: str, what: str, hint: str) -> Type:
    """Return the type of a string of a form; `what` goes behind the value (`is no mode`)."""

    def read(value: str) -> str:
        if not re.fullmatch(pattern, value):
            raise _wrong(f"'{value[:_SHOWN]}' {what}", hint)
        return value

    return read


def where_called(path: str) -> str:
    """Return a path, which is relative to where doit was called, as seen from where dodo.py is; '' and '-' as they are."""
    return path if path in {"", "-"} else str(Path(get_initial_workdir() or ".", path))
