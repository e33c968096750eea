"""`variables:` of pipeline.yaml: what a value may be, and what it is now: from the command line, the environment, a default."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from imagetiers.config.interpolation import REFERENCE, Value, text_of
from imagetiers.config.layout import PIPELINE_FILE
from imagetiers.config.model import DOIT_VARIABLES
from imagetiers.config.schema import cut, place
from imagetiers.config.yamltree import Node, Path
from imagetiers.errors import Problem, UndeclaredError
from imagetiers.layers.credentials import secret_variables
from imagetiers.repository_file import Reads
from imagetiers.suggestions import did_you_mean

__all__ = ["raise_if_undeclared", "read_variables"]

SECTION = "variables"
_LONGEST = 1000  # characters of a value
_INT = re.compile(r"-?[0-9]{1,18}", re.ASCII)
_BOOLS = {"true": True, "false": False}
_CREDENTIAL = "looks like a credential, and what a variable holds is in keys, records and logs"
_KINDS: Mapping[str, type] = {"string": str, "int": int, "bool": bool}
_WORDS = {"string": "a string", "int": "a whole number", "bool": "true or false"}


@dataclass(frozen=True, slots=True)
class _Variable:
    """What is declared: `kind` is string, int or bool, `values` what it may be (nothing: anything)."""

    name: str
    kind: str
    default: Value | None
    values: tuple[Value, ...]
    env: str | None

    def parse(self, text: str) -> Value:
        """Read a value. Raises ValueError, whose arguments are what is wrong and the cure."""
        value: Value | None = text
        if self.kind == "int":
            value = int(text) if _INT.fullmatch(text) else None
        elif self.kind == "bool":
            value = _BOOLS.get(text.lower())
        if value is None:
            raise ValueError(f"must be {_WORDS[self.kind]}", "such as 4" if self.kind == "int" else "true or false")
        wrong = _wrong(self.name, value)
        if wrong is not None:
            raise ValueError(*wrong)
        if self.values and value not in self.values:
            known = [text_of(each) for each in self.values]
            raise ValueError("is not one of its values", did_you_mean(text_of(value), known, "allowed"))
        return value


def raise_if_undeclared(tree: Node, given: Mapping[str, str]) -> None:
    """Raise UndeclaredError for what the command line gives and the file does not declare: it would do nothing."""
    section = tree.at((SECTION,))
    declared = tuple(section.value) if section is not tree and isinstance(section.value, dict) else ()
    known = (*declared, *DOIT_VARIABLES)
    UndeclaredError.raise_if(
        Problem(f"{name}={value}", f"there is no variable '{name}'", did_you_mean(name, known, "variables"))
        for name, value in given.items()
        if name not in declared
    )


def read_variables(
    tree: Node, given: Mapping[str, str], reads: Reads, problems: dict[Problem, None], wrong: set[Path]
) -> Mapping[str, Value | None]:
    """Return the variables with their values; None of one that has none, which is in `problems`.

    The command line comes before the environment, and that before the default. A variable of the environment that is empty
    counts as not set. Those that the schema finds `wrong` are passed over.
    """
    found: dict[str, Value | None] = {}
    section = tree.at((SECTION,))
    for name, node in section.value.items() if section is not tree and isinstance(section.value, dict) else ():
        found[name] = None
        if any(path[:2] == (SECTION, name) for path in wrong):
            continue
        told = list(_declaration_problems(tree, name, node))
        problems.update(dict.fromkeys(told))
        if not told:
            found[name] = _value(_read(name, node), tree, given, reads, problems)
    return found


def _read(name: str, node: Node) -> _Variable:
    said: dict[str, Any] = node.plain() if isinstance(node.value, dict) else {"default": node.value}
    default, values = said.get("default"), tuple(said.get("values", ()))
    example = default if default is not None else next(iter(values), "")
    kind = said.get("type") or next(kind for kind, type_ in _KINDS.items() if type(example) is type_)
    return _Variable(name, kind, default, values, said.get("env"))


def _declaration_problems(tree: Node, name: str, node: Node) -> Iterator[Problem]:
    """Yield what a schema cannot say of a declaration."""
    if name in DOIT_VARIABLES:
        where = place(tree, (SECTION, name), PIPELINE_FILE, key=True)
        yield Problem(where, f"doit {name}=… is something else", "choose another name")
        return
    variable = _read(name, node)
    at: list[tuple[Path, Value]] = [((SECTION, name, "values", n), value) for n, value in enumerate(variable.values)]
    if variable.default is not None:
        path: Path = (SECTION, name, "default") if isinstance(node.value, dict) else (SECTION, name)
        at.append((path, variable.default))
    for path, value in at:
        where = place(tree, path, PIPELINE_FILE)
        wrong = _wrong(name, value)
        if type(value) is not _KINDS[variable.kind]:
            hint = f'write it in quotes: "{text_of(value)}"' if variable.kind == "string" else f"type: {variable.kind}"
            yield Problem(where, f"must be {_WORDS[variable.kind]}, as the variable is", hint)
        elif wrong is not None:
            yield Problem(where, *wrong)
        elif path[-1] == "default" and variable.values and value not in variable.values:
            known = [text_of(each) for each in variable.values]
            yield Problem(where, "is not one of its values", did_you_mean(text_of(value), known, "allowed"))


def _wrong(name: str, value: Value) -> tuple[str, str] | None:
    """Say what no value may be, and the cure."""
    text = text_of(value)
    if len(text) > _LONGEST:
        return f"is longer than {_LONGEST:,} characters", "put it into a file"
    if REFERENCE in text:
        return f"holds '{REFERENCE}': a value cannot refer to others", "write what it comes to"
    if not text.isprintable():
        return "holds a character that cannot be seen", "write plain text, on one line"
    if any(secret_variables([(name, text)])):
        return _CREDENTIAL, "secrets: {ID: {env: NAME}}"
    return None


def _value(
    variable: _Variable, tree: Node, given: Mapping[str, str], reads: Reads, problems: dict[Problem, None]
) -> Value | None:
    name, env = variable.name, variable.env
    set_to = reads.environment_variable(env) if env is not None and name not in given else ""
    if name not in given and not set_to:
        if variable.default is None:
            where = place(tree, (SECTION, name), PIPELINE_FILE, key=True)
            hint = f"doit {name}=…" + (f", {env}=… in the environment" if env is not None else "") + ", or a default"
            problems[Problem(where, "has no value", hint)] = None
        return variable.default
    text = given.get(name, set_to)
    try:
        return variable.parse(text)
    except ValueError as error:
        what, hint = error.args
        shown = "" if what == _CREDENTIAL else f"={cut(text)}"  # a secret is not shown
        where = f"{name}{shown}" if name in given else f"{env}{shown}, in the environment"
        problems[Problem(where, what, hint)] = None
        return None
