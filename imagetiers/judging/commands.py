"""Whether a command did what was declared. Pure."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable, Sequence

from imagetiers.config.checks import CommandCheck, Declared
from imagetiers.judging.outcome import CheckOutcome

__all__ = ["commands_of", "judge_command"]

_TAIL = 12  # lines


def commands_of(declared: Sequence[Declared]) -> tuple[tuple[str, CommandCheck], ...]:
    """Return the commands of all tiers, each with the tier that asks; of the same command the youngest tier's word."""
    found = {command.run: (each.tier, command) for each in declared for command in each.checks.commands}
    return tuple(found.values())


def judge_command(tier: str, command: CommandCheck, code: int, lines: Iterable[str]) -> CheckOutcome:
    """Say whether the command ended and printed as it should."""
    printed = list(lines)
    text = "\n".join(printed)
    wrong = [] if code == command.exit_code else [f"ended with exit code {code}, not {command.exit_code}"]
    wrong += [f"did not print {wanted!r}" for wanted in command.output if wanted not in text]
    if command.matches is not None and not re.search(command.matches, text, re.MULTILINE):
        wrong.append(f"printed nothing that matches {command.matches!r}")
    name = shlex.join(command.run)
    told = "".join(f"\n    {line}" for line in printed[-_TAIL:]) or " nothing"
    problem = f"{name} {'; '.join(wrong)}; it printed:{told}" if wrong else ""
    return CheckOutcome(tier, f"command {name}", problem)
