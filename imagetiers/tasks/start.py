"""What every doit starts with: the variables of its command line, and the plan, or all that is wrong with them."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

from doit import doit_cmd

from imagetiers.config.layout import VOLUME_VARIABLE, Layout, Volume, parse_volume
from imagetiers.config.model import DOIT_VARIABLES, NOTHING_GIVEN, Trust, branch_name
from imagetiers.errors import Problem
from imagetiers.planning.plan import Plan
from imagetiers.state.plan_memory import recall
from imagetiers.suggestions import did_you_mean
from imagetiers.tasks.options import refused

__all__ = [
    "Opened",
    "Variables",
    "given_variables",
    "open_plan",
    "read_trust",
    "read_volume",
    "unreadable_names",
]

Variables = Callable[[str, str | None], str | None]


def given_variables() -> dict[str, str]:
    """Return the variables that doit was given and that are not its own here: those of pipeline.yaml, or misspelt ones."""
    # doit tells only of those that one asks for by name; None before it has read a command line.
    given: Mapping[str, str] | None = vars(doit_cmd)["_CMDLINE_VARS"]
    return {name: value for name, value in (given or {}).items() if name not in DOIT_VARIABLES}


def unreadable_names() -> list[Problem]:
    """Return that this Python reads the names of files as something else than UTF-8, if it does.

    Then a name would be another text for each locale, and so in each key, or none at all.
    """
    encoding = sys.getfilesystemencoding()
    if encoding == "utf-8":
        return []
    what = f"Python reads and writes names of files as {encoding} here, and keys hold them as UTF-8"
    return [Problem("the locale", what, "set PYTHONUTF8=1, or a locale such as LC_ALL=C.UTF-8")]


def read_volume() -> Volume | None:
    """Read IMAGETIERS_VOLUME. Raises InvalidDodoFile."""
    text = os.environ.get(VOLUME_VARIABLE, "")
    try:
        return parse_volume(text)
    except ValueError:
        what = "is not NAME:/PATH, a Docker volume and where it is"
        told = Problem(f"{VOLUME_VARIABLE}={text}", what, "such as cloudbuild:/workspace/volume; nothing for none")
        raise refused([told], "the environment") from None


def read_trust(variables: Variables) -> Trust:
    """Read whose build this is. Raises InvalidDodoFile."""
    level, branch = variables("trust", "trusted"), variables("branch", "main")
    if level not in {"trusted", "untrusted"}:
        hint = did_you_mean(level or "", ("trusted", "untrusted"), "either")
        raise refused([Problem(f"trust={level}", "is neither 'trusted' nor 'untrusted'", hint)], "the command line")
    if not branch or not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._/-]{0,99}", branch):
        hint = "begin with a letter or digit; then also '.', '_', '/' and '-', 100 characters at most"
        raise refused([Problem(f"branch={branch}", "is no name of a branch", hint)], "the command line")
    return Trust(level == "trusted", branch_name(branch))


@dataclass(frozen=True, slots=True)
class Opened:
    """The plan of a variant, read or remembered, and the names that `doit variant=` takes.

    `keep` spares the next doit the reading; nothing is written before it is called.
    """

    plan: Plan
    variants: tuple[str, ...]
    remembered: bool
    keep: Callable[[], None]


def open_plan(layout: Layout, variant: str | None, given: Mapping[str, str] = NOTHING_GIVEN) -> Opened:
    """Return the plan of a variant with the variables `given` as of today, remembered where nothing has changed of all that.

    Raises PipelineError with all that is wrong, as `reading.open_repository` does.
    """
    today = datetime.now(tz=UTC).date()
    known = recall(layout, variant, today, given)
    if known is not None:
        return Opened(known.plan, known.variants, remembered=True, keep=lambda: None)
    from imagetiers.tasks.reading import read_plan

    found, keep = read_plan(layout, variant, given, today)
    return Opened(found.plan, found.variants, remembered=False, keep=keep)
