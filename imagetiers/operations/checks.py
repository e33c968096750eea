"""Run the checks of an image's Python and its tiers' scripts in it, and say what they found, or why that is nothing."""

from __future__ import annotations

import json
import re
import secrets
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TextIO

import packaging

from imagetiers import inside
from imagetiers.building.deadline import Deadline
from imagetiers.documents import parse_object
from imagetiers.errors import Problem
from imagetiers.inputs.context import archive
from imagetiers.inputs.files import InputFile, input_file
from imagetiers.judging.outcome import CheckOutcome
from imagetiers.judging.python import python_checks
from imagetiers.operations.running import run_container
from imagetiers.planning.commands import verify_container
from imagetiers.planning.plan import TierPlan
from imagetiers.services import Services

__all__ = ["RUNNER", "Checked", "Script", "outcomes", "problems", "run_checks", "runner_files", "unfinished"]

# The marks carry a word that no script knows beforehand; without a line's end before it, a mark could be glued to a text.
RUNNER = b"""\
exec 2>&1
mark=$IMAGETIERS_MARK
unset IMAGETIERS_MARK
if ! command -v python3 >/dev/null; then
  echo "$mark missing python3"
  exit 0
fi
if [ -e /imagetiers/python.json ]; then
  echo "$mark python"
  python3 /imagetiers/python_checks.py "$mark" /imagetiers/python.json
  printf '\\n%s asked %s\\n' "$mark" "$?"
fi
for tier in $IMAGETIERS_VERIFY; do
  echo "$mark begin $tier"
  PYTHONPATH="/imagetiers/lib${PYTHONPATH:+:$PYTHONPATH}" python3 "/imagetiers/$tier/verify.py" "/imagetiers/$tier/expect.json"
  printf '\\n%s end %s\\n' "$mark" "$?"
done
echo "$mark done"
"""

_OK, _FAIL = re.compile(r"ok\b\s*"), re.compile(r"FAIL\b")
_TAIL, _SHOWN = 12, 30
_MOST, _LONGEST = 10_000, 200


@dataclass
class Script:
    """What one tier's script said: which checks passed, how many failed, its exit code (None: it has not ended)."""

    tier: str
    path: str
    passed: int = 0
    names: list[str] = field(default_factory=list)
    failed: int = 0
    code: int | None = None
    crashed: bool = False
    failures: list[str] = field(default_factory=list)
    tail: deque[str] = field(default_factory=lambda: deque(maxlen=_TAIL))

    def take(self, line: str) -> None:
        """Count a line of its output."""
        if not line.strip():
            return
        self.tail.append(line)
        self.crashed = self.crashed or line.startswith("Traceback ")
        if _OK.match(line):
            self.passed += 1
            if len(self.names) < _MOST:
                self.names.append(_OK.sub("", line, count=1).partition(":")[0][:_LONGEST])
        elif _FAIL.match(line):
            self.failed += 1
            if len(self.failures) < _SHOWN:
                self.failures.append(line)

    @property
    def told(self) -> tuple[tuple[str, str], ...]:
        """The names of the checks that have failed, the first ones, and what was said of each."""
        parts = [_FAIL.sub("", line, count=1).strip().partition(":") for line in self.failures]
        return tuple((name or self.path, said.strip() or name) for name, _, said in parts)


class Checked:
    """Takes the lines of a container that runs `RUNNER`, and tells the scripts' own from its marks.

    `path` is the file that gets all of them, `paths` are where the scripts lie in the repository, by tier. `code` is the
    container's exit code; `python` is what came out of each check of the image's Python, `asked` the exit code of the program
    that made them, None: it has not ended.
    """

    def __init__(self, mark: str, path: Path, paths: Mapping[str, str]) -> None:
        self.path = path
        self.paths = paths
        self.scripts: list[Script] = []
        self.begun = self.done = False
        self.python: dict[str, str] = {}
        self.trying = ""
        self.asked: int | None = None
        self.missing = ""
        self.code = -1
        self.outside: deque[str] = deque(maxlen=_TAIL)
        self._mark = mark

    def lines(self, line: str) -> Iterator[str]:
        """Take a line of the container; yield it as the log has it."""
        if not line.startswith(f"{self._mark} "):
            (self._current.take if self._current is not None else self.outside.append)(line)
            yield line
            return
        self.begun = True
        what, _, rest = line.removeprefix(f"{self._mark} ").partition(" ")
        if what == "begin":
            self.scripts.append(Script(rest, self.paths.get(rest, rest)))
            yield f"-- {rest}"
        elif what == "end" and self._current is not None:
            self._current.code = int(rest)
            yield f"-- exit code {rest}"
        elif what == "trying" and self.asked is None:
            self.trying = rest
            yield f"-- {rest}"
        elif what == "result" and self.asked is None and len(self.python) < _MOST:
            yield from self._result(rest)
        elif what == "asked" and self.asked is None:
            self.asked = int(rest)
        elif what == "missing":
            self.missing = rest
        elif what == "done":
            self.done = True

    @property
    def _current(self) -> Script | None:
        return self.scripts[-1] if self.scripts and self.scripts[-1].code is None else None

    def _result(self, text: str) -> Iterator[str]:
        said = parse_object(text)
        if said is not None and isinstance(said.get("check"), str) and isinstance(said.get("problem"), str):
            self.python[said["check"]] = said["problem"]
            yield f"FAIL {said['problem']}" if said["problem"] else f"ok   {said['check']}"


def run_checks(
    tier: TierPlan, path: Path, services: Services, deadline: Deadline, *, gpus: bool = False, cpus: str = ""
) -> Checked:
    """Run all scripts of a tier in a container of its image, with the host's `gpus` and on those `cpus`, or on all.

    It is ended when the time is over.

    Raises EngineError, VerifyError for an engine that does not say that it has ended, Interrupted, and OSError for the log.
    """
    nonce = secrets.token_hex(8)
    checked = Checked(nonce, path, tier.verify.script_paths)
    path.parent.mkdir(parents=True, exist_ok=True)
    container, files = verify_container(tier, nonce, gpus=gpus, cpus=cpus), archive(runner_files(tier))
    with path.open("w", encoding="utf-8") as log:
        take = partial(_take, checked, log)
        checked.code = run_container(f"verify:{tier.name}", container, services, deadline, take, files)
    return checked


def runner_files(tier: TierPlan) -> list[InputFile]:
    """Return what is laid into the container: the runner, the scripts with their parameters, and the questions to Python."""
    files = [input_file("imagetiers/verify.sh", RUNNER)]
    for name, script, params in tier.verify.scripts:
        files.append(input_file(f"imagetiers/{name}/verify.py", script))
        files.append(input_file(f"imagetiers/{name}/expect.json", params.encode()))
    files.append(input_file("imagetiers/lib/imagetiers_checks.py", _program("imagetiers_checks.py")))
    asked = python_checks(tier.verify.declared)
    if asked:
        files.append(input_file("imagetiers/python_checks.py", _program("python_checks.py")))
        files.append(input_file("imagetiers/python.json", json.dumps([list(each) for each in asked]).encode()))
        files += _packaging() if any(check.kind == "pip check" for check in asked) else []
    return files


def _program(name: str) -> bytes:
    return Path(inside.__file__).with_name(name).read_bytes()


def _packaging() -> list[InputFile]:
    """Return the files of `packaging`, which knows how requirements are written."""
    folder = Path(packaging.__file__).parent
    return [
        input_file(f"imagetiers/packaging/packaging/{path.relative_to(folder)}", path.read_bytes())
        for path in sorted(folder.rglob("*.py"))
    ]


def _take(checked: Checked, log: TextIO, line: str) -> None:
    log.writelines(f"{told}\n" for told in checked.lines(line))


def unfinished(checked: Checked) -> str:
    """Say which script a time limit has ended, and what it said last."""
    script = next((script for script in checked.scripts if script.code is None), None)
    if script is None:
        return _excerpt(checked.outside)
    return f" in {script.path}{_excerpt(script.tail) or ', which printed nothing'}"


def problems(tier: TierPlan, checked: Checked) -> Iterator[Problem]:
    """Yield what failed, and what was not checked although it should have been."""
    for outcome in _failed(tier, checked):
        yield Problem(f"verify:{tier.name}", outcome.problem, outcome.hint)


def _failed(tier: TierPlan, checked: Checked) -> Iterator[CheckOutcome]:
    look = f"docker run --rm -it --entrypoint sh {tier.ref} looks inside"
    log = f"the full output is {checked.path}"
    ran = {script.tier: script for script in checked.scripts}
    asked = python_checks(tier.verify.declared)
    if checked.missing:
        scripts = ", ".join(tier.verify.script_paths[name] for name, _, _ in tier.verify.scripts)
        nobody = " and ".join([*(["`verify: {python: ...}`"] if asked else []), *([scripts] if scripts else [])])
        what = f"the image has no {checked.missing} on its PATH, so nothing was checked by {nobody}"
        yield CheckOutcome(tier.name, checked.missing, what, f"install {checked.missing} in the image; {look}")
        return
    if not checked.begun:
        what = f"the checks could not be started (exit code {checked.code}){_excerpt(checked.outside)}"
        hint = f"they need /bin/sh and python3 in the image; {log}"
        yield CheckOutcome(tier.name, "checks in the image", what, hint)
        return
    for check in asked:
        if check.title not in checked.python:
            last = f"; the last one tried was {checked.trying}" if checked.trying else ""
            what = f"{check.title} was not checked: python3 ended with {checked.asked}{last}{_excerpt(checked.outside)}"
            yield CheckOutcome(check.tier, check.title, what, log)
        elif checked.python[check.title]:
            yield CheckOutcome(check.tier, check.title, checked.python[check.title], look)
    for name, _, _ in tier.verify.scripts:
        script = ran.get(name, Script(name, tier.verify.script_paths[name]))
        what, hint = _judge(script, checked, _expected(tier)[name])
        if what:
            yield CheckOutcome(name, script.path, what, f"{log}; {hint or look}", script.told)


def outcomes(tier: TierPlan, checked: Checked) -> Iterator[CheckOutcome]:
    """Yield what came out of each check, and of each script that did not do what it should."""
    for check in python_checks(tier.verify.declared):
        if checked.python.get(check.title) == "":
            yield CheckOutcome(check.tier, check.title)
    for script in checked.scripts:
        yield from (CheckOutcome(script.tier, name) for name in script.names)
    yield from _failed(tier, checked)


def _expected(tier: TierPlan) -> Mapping[str, str]:
    return {name: expectations for name, _, expectations in tier.verify.scripts}


def _judge(script: Script, checked: Checked, expected: str) -> tuple[str, str]:
    """Return what is wrong with a script's run, or nothing, and a hint of its own if there is one."""
    if script.code is None:
        how = f"the container ended with exit code {checked.code}{_KILLED.get(checked.code, '')}"
        return f"{script.path} did not end: {how}{_excerpt(script.tail)}", ""
    if script.failed:
        more = script.failed - len(script.failures)
        lines = [
            *script.failures,
            *([f"(and {more} more)"] if more else []),
            *(_without(script.tail, script.failures) if script.crashed else ()),
        ]
        total = script.passed + script.failed
        return f"{script.failed} of {total} checks of {script.path} failed{_excerpt(lines, '')}", ""
    if script.code != 0:
        said = _excerpt(script.tail) if script.tail else " and printed nothing"
        return f"{script.path} ended with exit code {script.code}{_SHELL.get(script.code, '')}{said}", ""
    if not script.passed:
        hint = f"let it print a line 'ok ...' for each check; it was given {expected}"
        return f"{script.path} checked nothing: it printed no line that begins with 'ok'{_excerpt(script.tail)}", hint
    return "", ""


_KILLED = {137: " (killed; out of memory?)", 143: " (terminated)"}
_SHELL = {126: " (python3 cannot be run)", 127: " (python3, or what it is a link to, is not there)"}


def _without(lines: Iterable[str], told: list[str]) -> Iterator[str]:
    return (line for line in lines if line not in told)


def _excerpt(lines: list[str] | deque[str], title: str = "; its last lines") -> str:
    return f"{title}:\n" + "\n".join(f"    {line}" for line in lines) if lines else ""
