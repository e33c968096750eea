"""JSON Schema errors in the words of this project: where in pipeline.yaml, what is wrong, what to do."""

from __future__ import annotations

import contextlib
import hashlib
import json
import re
from collections.abc import Callable, Iterable, Iterator
from importlib.resources import files
from itertools import chain
from pathlib import Path
from typing import Any

from imagetiers.config.yamltree import Node, show_path
from imagetiers.config.yamltree import Path as KeyPath
from imagetiers.errors import Problem
from imagetiers.suggestions import did_you_mean

__all__ = ["cut", "place", "schema_mark", "schema_problems", "schema_text"]

_END = re.compile(r"\$(?=\||\)|\Z)")
_LONGEST = 60  # characters of a value that a message repeats
_NO_SUCH_KEY = "there is no such key"
_OTHER_BOOLEANS = {"yes": "true", "on": "true", "y": "true", "no": "false", "off": "false", "n": "false"}
_KIND = {
    "string": "a string",
    "number": "a number",
    "integer": "a whole number",
    "boolean": "true or false",
    "object": "a mapping",
    "array": "a list",
    "null": "nothing (null)",
}
Say = Callable[[Any, Node, KeyPath], "tuple[str, str]"]


def place(tree: Node, path: KeyPath, name: str, *, key: bool = False) -> str:
    """Return `pipeline.yaml:LINE:COL: path` for the value (or the key itself) at `path`."""
    node = tree.key_at(path) if key else tree.at(path)
    shown = show_path(path)
    return f"{name}:{node.line}:{node.column}" + (f": {shown}" if shown else "")


def schema_text() -> bytes:
    """Return the JSON Schema of pipeline.yaml, which is part of the package."""
    return files(__package__).joinpath("pipeline.schema.json").read_bytes()


def schema_mark(tree: Node) -> str:
    """Return the name, by schema and tree, of the mark that says that the tree has passed."""
    return hashlib.sha256(schema_text() + b"\0" + json.dumps(tree.plain(), sort_keys=True).encode()).hexdigest()


def schema_problems(tree: Node, name: str, mark: Path) -> Iterator[tuple[KeyPath, Problem]]:
    """Yield (path, problem) of everything in `tree` that the schema does not allow.

    A tree whose `mark` is there (`editor_schema.keep_marks`) is not checked again. That spares a `doit` that has nothing
    to do the import of jsonschema.
    """
    with contextlib.suppress(OSError):  # somebody else's: then it is checked
        if mark.exists():
            return
    errors = _validator()(json.loads(schema_text())).iter_errors(tree.plain())
    found = [entry for error in errors for entry in _explain(error, tree, name)]
    yield from _without_echoes(found)


def _validator() -> Any:
    """Return jsonschema's validator, exact where Python's habits are not JSON Schema's.

    `$` in a pattern is the end of the text, and not before a last line feed; a whole number is written as one.
    """
    from jsonschema import Draft202012Validator, ValidationError
    from jsonschema.validators import extend

    def pattern(_validator: Any, wanted: str, instance: Any, _schema: Any) -> Iterator[ValidationError]:
        if isinstance(instance, str) and not re.search(_END.sub(r"\\Z", wanted), instance):
            yield ValidationError(f"does not match {wanted}")

    def is_whole(_checker: Any, instance: Any) -> bool:
        return isinstance(instance, int) and not isinstance(instance, bool)

    types = Draft202012Validator.TYPE_CHECKER.redefine("integer", is_whole)
    return extend(Draft202012Validator, {"pattern": pattern}, type_checker=types)  # type: ignore[no-untyped-call]


def _without_echoes(found: list[tuple[KeyPath, Problem]]) -> Iterator[tuple[KeyPath, Problem]]:
    """Leave out that a key is missing where it stands misspelt: one mistake, one problem."""
    meant = {
        (path[:-1], problem.hint.removeprefix("did you mean ").removesuffix("?"))
        for path, problem in found
        if problem.what == _NO_SUCH_KEY and problem.hint.startswith("did you mean ")
    }
    long = {path for path, problem in found if problem.what.startswith("is longer than ")}
    for path, problem in found:
        if path in long and problem.what.endswith(" is not of the right form"):
            continue
        missing = problem.what.startswith("needs ") or problem.what.endswith(" is missing")
        if not (missing and any(path == where and key in problem.what for where, key in meant)):
            yield path, problem


def _explain(error: Any, tree: Node, name: str) -> Iterator[tuple[KeyPath, Problem]]:
    path: KeyPath = tuple(error.absolute_path)
    if error.validator == "additionalProperties" and error.validator_value is False:
        known = error.schema["properties"]
        for key in error.instance:
            if key not in known:
                where = place(tree, (*path, key), name, key=True)
                yield (*path, key), Problem(where, _NO_SUCH_KEY, _instead(key, known))
        return
    if "propertyNames" in error.absolute_schema_path:  # about a key itself; its path ends at the mapping
        where = place(tree, (*path, str(error.instance)), name, key=True)
        if error.validator == "maxLength":
            wrong = (f"is longer than {error.validator_value} characters", "choose a shorter name")
        else:
            wrong = (
                f"'{cut(error.instance)}' is not a good name",
                _describe(error) or f"it must match {error.validator_value}",
            )
        yield path, Problem(where, *wrong)
        return
    meant = _meant(error)
    if meant:
        for each in meant:
            yield from _explain(each, tree, name)
        return
    say = _SAY.get(error.validator)
    node = tree.at(path)
    if _follows(error):
        return
    what, hint = say(error, node, path) if say else (error.message, "")
    removed = _removed(error, node)
    if removed is not None:
        where, shown = f"{name}:{removed.line}:{removed.column}", show_path(path)
        yield path, Problem(f"{where}: {shown}" if shown else where, f"{what}, because this removes it", hint)
        return
    yield path, Problem(place(tree, path, name), what, hint)


def _meant(error: Any) -> list[Any]:
    """Return what is wrong by that of several forms which has the value's type; nothing where none has it."""
    if error.validator != "oneOf":
        return []
    for index, option in enumerate(error.validator_value):
        if isinstance(error.instance, _TYPES.get(option.get("type"), ())):
            return [each for each in error.context if each.relative_schema_path[0] == index]
    return []


def _instead(key: str, known: Iterable[str]) -> str:
    """Return a hint for a key that is not known. Where there are `params`, they take what imagetiers does not know."""
    hint = did_you_mean(key, known, "keys here")
    if "params" in known and not hint.startswith("did you mean "):
        return f"what only your verify.py knows is written as params: {{{cut(key)}: …}}"
    return hint


def _removed(error: Any, node: Node) -> Node | None:
    """Return the place where a variant took away what is missing."""
    if error.validator == "required":
        keys = [key for key in error.validator_value if f"'{key}'" in error.message]
    elif error.validator in {"anyOf", "oneOf"}:
        keys = [key for option in error.validator_value for key in option.get("required", ())]
    else:
        keys = []
    return next((node.removed[key] for key in keys if node.removed and key in node.removed), None)


def _describe(error: Any) -> str:
    return str(error.schema.get("description", ""))


def _found(node: Node) -> str:
    value = node.value
    if isinstance(value, dict):
        return "a mapping"
    if isinstance(value, list):
        return "a list"
    if value is None:
        return "nothing"
    if isinstance(value, bool):
        return f"the boolean {node.text}"
    if isinstance(value, int | float):
        shown = repr(value)
        written = cut(node.text)
        return f"the number {cut(shown)}" + (f" (written {written})" if shown != node.text else "")
    return f"the string '{cut(node.text)}'"


_TYPES: dict[str, tuple[type, ...]] = {
    "string": (str,),
    "integer": (int,),
    "number": (int, float),
    "object": (dict,),
    "array": (list,),
}
_OF_A_TYPE = {"enum", "const", "minimum", "maximum", "exclusiveMinimum", "anyOf", "oneOf"}


def _follows(error: Any) -> bool:
    """Say whether something is only wrong because the value's type is, which is reported already."""
    wanted = error.schema.get("type")
    if error.validator not in _OF_A_TYPE or not isinstance(wanted, str):
        return False
    return not isinstance(error.instance, _TYPES[wanted]) or (isinstance(error.instance, bool) and wanted != "object")


def cut(text: str) -> str:
    """Return a text that fits on a line."""
    text = text.replace("\n", "\\n")
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}…"


def _type(error: Any, node: Node, _path: KeyPath) -> tuple[str, str]:
    kinds = error.validator_value if isinstance(error.validator_value, list) else [error.validator_value]
    what = f"must be {' or '.join(_KIND[kind] for kind in kinds)}, but is {_found(node)}"
    if "string" in kinds and isinstance(node.value, bool | int | float):
        return what, f'write it in quotes: "{cut(node.text)}"'
    if kinds == ["boolean"] and node.text.lower() in _OTHER_BOOLEANS:
        return what, f"write {_OTHER_BOOLEANS[node.text.lower()]}: in YAML 1.2 '{node.text}' is a string"
    if kinds == ["integer"] and isinstance(node.value, float) and node.value.is_integer():
        return what, f"write {node.value:.0f}"
    return what, _describe(error)


def _pattern(error: Any, node: Node, _path: KeyPath) -> tuple[str, str]:
    return f"'{cut(node.text)}' is not of the right form", _describe(error) or f"must match {error.validator_value}"


def _required(error: Any, _node: Node, _path: KeyPath) -> tuple[str, str]:
    wanted = error.validator_value if error.validator == "required" else chain(*error.validator_value.values())
    missing = [key for key in wanted if key not in error.instance]
    key = next((k for k in missing if f"'{k}'" in error.message), missing[0])
    description = error.schema.get("properties", {}).get(key, {}).get("description", "")
    return f"'{key}' is missing", str(description)


def _one_of(error: Any, node: Node, _path: KeyPath) -> tuple[str, str]:
    if all("type" in option for option in error.validator_value):
        kinds = " or ".join(_KIND[option["type"]] for option in error.validator_value)
        return f"must be {kinds}, but is {_found(node)}", _describe(error)
    names = [option["required"][0] for option in error.validator_value]
    there = [name for name in names if isinstance(node.value, dict) and name in node.value]
    if len(there) > 1:
        return f"has both '{there[0]}' and '{there[1]}'", "keep one of them"
    return f"needs {' or '.join(map(repr, names))}", _describe(error)


def _repeated(node: Node) -> str:
    seen: set[str] = set()
    for item in node.value if isinstance(node.value, list) else ():
        if item.text and item.text in seen:
            return f"'{cut(item.text)}'"
        seen.add(item.text)
    return "a value"


def _enum(error: Any, node: Node, _path: KeyPath) -> tuple[str, str]:
    allowed = [str(value) for value in error.validator_value]
    if isinstance(node.value, dict | list):
        return f"must be one of the allowed values, but is {_found(node)}", f"allowed: {', '.join(allowed)}"
    return f"'{cut(node.text)}' is not one of the allowed values", did_you_mean(node.text, allowed, "allowed")


_SAY: dict[str, Say] = {
    "type": _type,
    "pattern": _pattern,
    "required": _required,
    "dependentRequired": _required,
    "oneOf": _one_of,
    "anyOf": _one_of,
    "enum": _enum,
    "const": lambda error, node, _: (f"must be {error.validator_value}, but is {_found(node)}", _describe(error)),
    "minimum": lambda error, node, _: (f"{node.text} is below {error.validator_value}", _describe(error)),
    "maximum": lambda error, node, _: (f"{node.text} is above {error.validator_value}", _describe(error)),
    "exclusiveMinimum": lambda error, node, _: (f"{node.text} is not above {error.validator_value}", _describe(error)),
    "minLength": lambda error, _node, _: ("is empty", _describe(error)),
    "maxLength": lambda error, _node, _: (f"is longer than {error.validator_value} characters", _describe(error)),
    "minItems": lambda error, _node, _: ("is empty", _describe(error)),
    "minProperties": lambda error, _node, _: ("is empty", _describe(error)),
    "uniqueItems": lambda _error, node, _: (f"holds {_repeated(node)} twice", "remove one of the two"),
}
