"""Bake files without Docker: the part of the language that needs no functions, as `docker buildx bake --print` prints it.

Literals, variables with their defaults or from the environment, `${NAME}` in strings, `inherits`, `matrix`. Anything else is an
error that says so: nothing is guessed.
"""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from imagetiers.errors import PipelineError, Problem
from imagetiers.extras import missing_extra

__all__ = ["Outline", "evaluate", "load_blocks", "outline_of"]

Blocks = dict[str, dict[str, dict[str, Any]]]  # kind (target, group, variable, ...), then label
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_-]*(\.[A-Za-z_][A-Za-z0-9_-]*)*")
_HOLE = re.compile(r"\$\$\{|\$\{([^{}]*)\}")
# What an heir adds to what it inherits, as bake 0.13 does; all else it replaces.
_MERGED = frozenset({"args", "contexts", "labels"})
_APPENDED = frozenset(
    {"annotations", "attest", "cache-from", "entitlements", "no-cache-filter", "secret", "ssh", "ulimits"}
)
_BLOCKS = re.compile(r'^[ \t]*(target|group|variable)[ \t]+"([^"\n]+)"[ \t]*\{', re.MULTILINE)
_INHERITS = re.compile(r"^[ \t]*inherits[ \t]*=[ \t]*\[([^\]]*)\]", re.MULTILINE)
_COMMENT = re.compile(r"/\*.*?\*/", re.DOTALL)


class _Quoted(str):
    """A string of the file, in which `${...}` are holes; other strings are expressions."""

    __slots__ = ()


@dataclass(frozen=True, slots=True)
class Outline:
    """What a bake file names, in its order; `inherited` are targets that others inherit from."""

    targets: tuple[str, ...]
    groups: tuple[str, ...]
    variables: tuple[str, ...]
    inherited: frozenset[str]


def outline_of(text: str, name: str) -> Outline:
    """Return what a bake file names, without evaluating anything: HCL needs no parser for that. Raises PipelineError."""
    if name.endswith(".json"):
        blocks = _json_blocks(text, name)
        parents = (target.get("inherits") or () for target in blocks.get("target", {}).values())
        inherited = frozenset(str(parent) for listed in parents for parent in listed)
        targets, groups, variables = (tuple(blocks.get(kind, {})) for kind in ("target", "group", "variable"))
        return Outline(targets, groups, variables, inherited)
    plain = _COMMENT.sub("", text)
    inherited = frozenset(each for listed in _INHERITS.findall(plain) for each in re.findall(r'"([^"]+)"', listed))
    found: dict[str, dict[str, None]] = {"target": {}, "group": {}, "variable": {}}
    for kind, label in _BLOCKS.findall(plain):
        found[kind][label] = None
    return Outline(tuple(found["target"]), tuple(found["group"]), tuple(found["variable"]), inherited)


def load_blocks(text: str, name: str) -> Blocks:
    """Parse a bake file, JSON by its name and HCL otherwise. Raises PipelineError, also when the extra `bake` is missing."""
    if name.endswith(".json"):
        return _json_blocks(text, name)
    missing = missing_extra("hcl2", "bake", name, "HCL without docker buildx")
    if missing is not None:
        raise PipelineError(missing)
    import hcl2
    from lark.exceptions import LarkError

    try:
        given = hcl2.loads(text if text.endswith("\n") else f"{text}\n")
    except (LarkError, RecursionError) as error:
        what = f"is no HCL: {' '.join(str(error).split())[:200]}"
        raise PipelineError(Problem(name, what, "docker buildx bake --print shows how bake reads it")) from None
    blocks: Blocks = {}
    for kind, entries in given.items():
        for entry in entries if isinstance(entries, list) else ():
            for label, body in entry.items() if isinstance(entry, dict) else ():
                if isinstance(body, dict):
                    blocks.setdefault(kind, {})[label.strip('"')] = {
                        key.strip('"'): _texts(value) for key, value in body.items() if not key.startswith("__")
                    }
    return blocks


def _texts(value: Any) -> Any:
    """Tell the parser's quoted strings from its expressions."""
    if isinstance(value, dict):
        return {key.strip('"'): _texts(each) for key, each in value.items() if not key.startswith("__")}
    if isinstance(value, list):
        return [_texts(each) for each in value]
    if isinstance(value, str) and len(value) > 1 and value[0] == value[-1] == '"':
        try:
            return _Quoted(json.loads(value))
        except ValueError:
            return _Quoted(value[1:-1])
    return value


def _json_blocks(text: str, name: str) -> Blocks:
    try:
        given = json.loads(text)
        return {
            kind: {label: {key: _quoted(value) for key, value in body.items()} for label, body in entries.items()}
            for kind, entries in given.items()
            if isinstance(entries, dict)
        }
    except AttributeError:
        raise PipelineError(Problem(name, "is no bake file: it must be a mapping of mappings")) from None
    except (ValueError, RecursionError) as error:
        what = f"is no JSON: {error}"
        raise PipelineError(Problem(name, what, "docker buildx bake --print shows how bake reads it")) from None


def _quoted(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _quoted(each) for key, each in value.items()}
    if isinstance(value, list):
        return [_quoted(each) for each in value]
    return _Quoted(value) if isinstance(value, str) else value


def evaluate(blocks: Blocks, name: str, env: Mapping[str, str]) -> dict[str, Any]:
    """Return what `docker buildx bake --print` prints for all targets. Raises PipelineError for what is not understood."""
    problems: list[Problem] = []
    variables: dict[str, Any] = {}
    for label, body in blocks.get("variable", {}).items():
        variables[label] = env.get(label, _value(body.get("default"), variables, f"variable {label}", problems))
    targets: dict[str, dict[str, Any]] = {}
    groups: dict[str, dict[str, Any]] = {}
    for label, body in blocks.get("target", {}).items():
        made = list(_expanded(label, body, variables, problems))
        targets.update(made)
        if "matrix" in body:
            groups[label] = {"targets": [each for each, _ in made]}
    for label, body in blocks.get("group", {}).items():
        groups[label] = {"targets": _value(body.get("targets", []), variables, f"group {label}", problems)}
    unknown = sorted(set(blocks) - {"variable", "target", "group"})
    problems += [Problem("", f"'{kind}' is evaluated by docker buildx alone") for kind in unknown]
    whole = {label: _inherited(label, targets, problems, ()) for label in targets}
    if problems:
        hint = "install docker buildx, or port the JSON that docker buildx bake --print writes elsewhere"
        raise PipelineError(
            *(Problem(": ".join(filter(None, (name, each.where))), each.what, hint) for each in dict.fromkeys(problems))
        )
    for target in whole.values():
        target.setdefault("context", ".")
        target.setdefault("dockerfile", "Dockerfile")
    return {"group": groups, "target": whole}


def _expanded(
    label: str, body: Mapping[str, Any], variables: Mapping[str, Any], problems: list[Problem]
) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield a target, or each one of its matrix, by name."""
    matrix = _value(body.get("matrix", {}), variables, f"target {label}", problems)
    keys = list(matrix) if isinstance(matrix, dict) else []  # bake's own order changes from run to run
    for values in itertools.product(*(matrix[key] for key in keys)):
        scope = {**variables, **dict(zip(keys, values, strict=True))}
        name = _value(body.get("name", _Quoted(label)), scope, f"target {label}", problems)
        yield (
            str(name),
            {
                key: _value(value, scope, f"target {label}: {key}", problems)
                for key, value in body.items()
                if key not in {"matrix", "name"}
            },
        )


def _inherited(
    label: str, targets: Mapping[str, dict[str, Any]], problems: list[Problem], above: tuple[str, ...]
) -> dict[str, Any]:
    """Return a target with what it inherits: later parents over earlier ones, its own over all."""
    if label not in targets or label in above:
        problems.append(Problem("", f"'{label}' is inherited from, but is no target before it"))
        return {}
    result: dict[str, Any] = {}
    own = targets[label]
    parents = [_inherited(str(parent), targets, problems, (*above, label)) for parent in own.get("inherits") or ()]
    for layer in (*parents, own):
        for key, value in layer.items():
            if key in _MERGED and isinstance(value, dict):
                before = result.get(key, {})
                result[key] = before | {
                    name: each for name, each in value.items() if each is not None or name not in before
                }
            elif key in _APPENDED and isinstance(value, list):
                result[key] = [*result.get(key, []), *(each for each in value if each not in result.get(key, []))]
            elif key != "inherits":
                result[key] = value
    return result


def _value(value: Any, scope: Mapping[str, Any], where: str, problems: list[Problem]) -> Any:
    if isinstance(value, dict):
        return {key: _value(each, scope, where, problems) for key, each in value.items()}
    if isinstance(value, list):
        return [_value(each, scope, where, problems) for each in value]
    if isinstance(value, _Quoted):
        whole = _HOLE.fullmatch(value)
        if whole is not None and whole[1] is not None:
            return _lookup(whole[1], scope, where, problems)
        return _HOLE.sub(
            lambda hole: "${" if hole[1] is None else _text(_lookup(hole[1], scope, where, problems)), value
        )
    if isinstance(value, str):
        return _lookup(value.removeprefix("${").removesuffix("}"), scope, where, problems)
    return value


def _text(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _lookup(expression: str, scope: Mapping[str, Any], where: str, problems: list[Problem]) -> Any:
    expression = expression.strip()
    if expression == "null":
        return None
    found: Any = scope
    for part in expression.split(".") if _NAME.fullmatch(expression) else ("",):
        if not isinstance(found, Mapping) or part not in found:
            problems.append(Problem(where, f"the expression '{expression[:60]}' is evaluated by docker buildx alone"))
            return ""
        found = found[part]
    return found
