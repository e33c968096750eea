"""Problems as GitHub shows them beside the lines of a change (workflow commands). Pure."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator
from pathlib import PurePath

__all__ = ["as_annotations", "in_files"]

# A problem as its text has it: `pipeline.yaml:12:3: what`, `tiers.app: what`, the hint on the next line.
_IN_FILE = re.compile(r"(?P<file>[^\s:]+\.?[^\s:]*):(?P<line>\d+)(?::(?P<column>\d+))?: (?P<what>.*)")
_HERE = PurePath()
_MOST = 10  # that GitHub shows of a step


def in_files(text: str, folder: PurePath = _HERE) -> Iterator[str]:
    """Yield the commands for the problems that name a file and a line."""
    lines = text.splitlines()
    for number, line in enumerate(lines):
        problem = _IN_FILE.fullmatch(line)
        if problem is None:
            continue
        following = [one.strip() for one in lines[number + 1 :]]
        hints = itertools.takewhile(lambda one: one.startswith(("hint: ", "costs: ")), following)
        told = "\n".join([problem["what"], *hints])
        place = [f"file={_property(str(folder / problem['file']))}", f"line={problem['line']}"]
        if problem["column"]:
            place.append(f"col={problem['column']}")
        level = "warning" if told.startswith("warning: ") else "error"
        yield f"::{level} {','.join(place)}::{_message(told.removeprefix(f'{level}: '))}"


def as_annotations(text: str, title: str = "", folder: PurePath = _HERE) -> list[str]:
    """Return the commands for the problems of a text: each that names a file and a line, else one for all of it.

    `folder` is where the files are, as seen from the root of the checkout.
    """
    found = list(in_files(text, folder))[:_MOST]
    if found:
        return found
    named = f" title={_property(title)}" if title else ""
    return [f"::error{named}::{_message(text.strip())}"] if text.strip() else []


def _message(text: str) -> str:
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(text: str) -> str:
    return _message(text).replace(":", "%3A").replace(",", "%2C")
