"""Where a bake file's variables went: it is evaluated with a mark in the place of each, and marks are found in its values.

Nothing of bake's language is read for it. A value in which a variable does more than to stand there (a condition, a function)
is not the same once the marks are replaced, and is written as what it is now.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

from imagetiers.bake.model import BakeFile, BakeTarget, parse_print
from imagetiers.config.interpolation import REFERENCE, VARIABLE
from imagetiers.config.model import DOIT_VARIABLES
from imagetiers.errors import PipelineError
from imagetiers.layers.credentials import secret_variables

__all__ = ["NO_VARIABLES", "Variables", "find_variables", "literal"]

Evaluate = Callable[[Mapping[str, str]], Mapping[str, Any]]
"""Return what `bake --print` prints of all targets with these variables of the environment. Raises PipelineError."""

_MOST = 50
_MEANT = re.compile(r"\$\((?=(var|matrix|vars|variable|variables|env)\.)")
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,59}")


def _mark(number: int) -> str:
    """Return what stands for a variable: nothing that `lower`, `replace` or `split` would change, and nobody writes."""
    return f"imagetiersvariable{number}x"


@dataclass(frozen=True, slots=True)
class Variables:
    """The values of variables that may stand in a pipeline, and the targets as they are with the mark of each."""

    values: Mapping[str, str] = field(default_factory=dict)
    marks: Mapping[str, str] = field(default_factory=dict)
    targets: Mapping[str, BakeTarget] = field(default_factory=dict)

    def refer(self, value: str, marked: str | None) -> str:
        """Return a value with references to the variables that it is made of, as pipeline.yaml has them."""
        if marked is None or self._filled(marked) != value:
            return literal(value)
        text = literal(marked)
        for name, mark in self.marks.items():
            text = text.replace(mark, f"{REFERENCE}{VARIABLE}.{name})")
        return text

    def used_in(self, text: str) -> dict[str, str]:
        """Return the variables that a text refers to, with their values."""
        return {name: value for name, value in self.values.items() if f"{REFERENCE}{VARIABLE}.{name})" in text}

    def _filled(self, marked: str) -> str:
        for name, mark in self.marks.items():
            marked = marked.replace(mark, self.values[name])
        return marked


NO_VARIABLES = Variables(MappingProxyType({}), MappingProxyType({}), MappingProxyType({}))


def literal(value: str) -> str:
    """Return a text as a pipeline has it that is to refer to nothing."""
    return _MEANT.sub(f"${REFERENCE}", value)


def find_variables(names: tuple[str, ...], bake: BakeFile, evaluate: Evaluate, source: str) -> Variables:
    """Return the variables whose values are plain parts of what targets say; `evaluate` evaluates the file `source`."""
    values, marks = {}, {}
    for number, name in enumerate(names[:_MOST]):
        if not _NAME.fullmatch(name) or name in DOIT_VARIABLES:
            continue
        mark = _mark(number)
        value = _value(bake, _evaluated(evaluate, {name: mark}, source), mark)
        if (
            value is not None
            and value.isprintable()
            and REFERENCE not in value
            and not any(secret_variables([(name, value)]))
        ):
            values[name], marks[name] = value, mark
    marked = _evaluated(evaluate, {name: marks[name] for name in values}, source) if values else None
    return Variables(values, marks, marked.targets) if marked is not None else NO_VARIABLES


def _evaluated(evaluate: Evaluate, env: Mapping[str, str], source: str) -> BakeFile | None:
    try:
        return parse_print(evaluate(env), source)
    except PipelineError:  # it is a number, or must have a form
        return None


def _value(bake: BakeFile, marked: BakeFile | None, mark: str) -> str | None:
    """Return the value that stands in the place of a mark, the same wherever that is; None where there is none such."""
    targets = marked.targets if marked is not None else {}
    found = {
        value
        for name, target in targets.items()
        if name in bake.targets
        for actual, text in _texts(bake.targets[name], target)
        for value in _between(actual, text, mark)
    }
    return found.pop() if len(found) == 1 else None


def _texts(actual: BakeTarget, marked: BakeTarget) -> Iterator[tuple[str, str]]:
    """Yield the values of a target that may hold references, as they are and as they are marked."""
    if len(actual.tags) == len(marked.tags):
        yield from zip(actual.tags, marked.tags, strict=True)
    for mine, theirs in ((actual.args, marked.args), (actual.labels, marked.labels)):
        for name, value in mine.items():
            text = theirs.get(name)
            if value is not None and text is not None:
                yield value, text


def _between(actual: str, text: str, mark: str) -> Iterator[str]:
    before, found, after = text.partition(mark)
    if found and mark not in after and actual.startswith(before) and actual.endswith(after):
        end = len(actual) - len(after)
        if end >= len(before):
            yield actual[len(before) : end]
