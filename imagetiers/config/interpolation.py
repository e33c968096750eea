"""References in values: `$(var.NAME)` is a variable's value, `$(matrix.NAME)` that of a matrix's cell. Pure.

A plain scalar that is one reference and nothing else becomes the value with its type; between quotes, or with text around it,
a reference becomes text. `$$(var.NAME)` stands for itself without the first `$`. Parentheses, because braces and brackets end a
plain scalar within YAML's flow mappings.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace

from imagetiers.config.layout import PIPELINE_FILE
from imagetiers.config.schema import cut
from imagetiers.config.yamltree import Node, Path, show_path
from imagetiers.errors import Problem
from imagetiers.suggestions import did_you_mean

__all__ = ["MATRIX", "REFERENCE", "VARIABLE", "Filling", "Value", "escaped", "text_of"]

VARIABLE, MATRIX = "var", "matrix"
REFERENCE = "$("  # what each of them holds
Value = str | int | bool
_MEANT = {"vars": VARIABLE, "variable": VARIABLE, "variables": VARIABLE, "env": VARIABLE}  # what others call it
_FORM = re.compile(rf"(\$?)\$\(\s*({VARIABLE}|{MATRIX}|{'|'.join(_MEANT)})\s*\.([^()]*)\)")
_SECRETS = (
    "a secret is taken from nothing that is in keys, records and logs",
    "write the name of the variable or file itself",
)
_MOST = 100  # references in one text: a value has 1,000 characters at most, and each of them may be one


def text_of(value: Value) -> str:
    """Return a value as it stands within a text."""
    return str(value).lower() if isinstance(value, bool) else str(value)


def escaped(text: str) -> str:
    """Return the text that is read as this one."""
    return _FORM.sub(r"$\g<0>", text)


@dataclass(slots=True)
class Filling:
    """Fills in one scope, and notes in `problems` what cannot be, and in `wrong` where.

    `values` is what there is to refer to, None: there is nothing to refer to here, for the reason `why`. A value of None is
    one that nobody knows, because it is wrong. A `silent` one only notes where: then something else is known to be wrong.
    """

    scope: str
    values: Mapping[str, Value | None] | None
    problems: dict[Problem, None]
    wrong: set[Path]
    why: tuple[str, str] = ("", "")
    silent: bool = False

    def fill(self, node: Node, path: Path) -> Node:
        """Return a node with its references filled in; the node itself where it holds none."""
        if self.values is not None and path[:1] == ("tiers",) and path[2:] == ("secrets",):
            return replace(self, values=None, why=_SECRETS).fill(node, path)
        if isinstance(node.value, str):
            return self._scalar(node, path) if REFERENCE in node.value else node
        if isinstance(node.value, dict):
            for key, at in (node.keys or {}).items():
                if any(not match[1] and match[2] == self.scope for match in _FORM.finditer(key)):
                    self._tell(at, (*path, key), "a key holds a reference", "only values may")
            entries = {key: self.fill(value, (*path, key)) for key, value in node.value.items()}
            changed = any(entries[key] is not value for key, value in node.value.items())
            return replace(node, value=entries) if changed else node
        if isinstance(node.value, list):
            items = [self.fill(value, (*path, index)) for index, value in enumerate(node.value)]
            return replace(node, value=items) if any(map(_differ, items, node.value)) else node
        return node

    def _scalar(self, node: Node, path: Path) -> Node:
        text = str(node.value)
        found = [match for match in _FORM.finditer(text) if match[2] == self.scope or self._is_meant(match)]
        if not found:
            return node
        if len(found) > _MOST:
            self._tell(node, path, f"holds {len(found):,} references; the limit is {_MOST}", "write a shorter text")
            return node
        whole = found[0] if len(found) == 1 and not found[0][1] and found[0][0] == text and not node.quoted else None
        pieces: list[str] = []
        at = 0
        for match in found:
            value = match[0][1:] if match[1] else self._value(match, node, path)
            if value is None:
                return node
            if whole is not None and not isinstance(value, str):
                return replace(node, value=value)  # its text stays what is written, for messages
            pieces += [text[at : match.start()], text_of(value)]
            at = match.end()
        filled = "".join(pieces) + text[at:]
        return replace(node, value=filled, text=filled)

    def _is_meant(self, match: re.Match[str]) -> bool:
        return _MEANT.get(match[2]) == self.scope

    def _value(self, match: re.Match[str], node: Node, path: Path) -> Value | None:
        scope, name = match[2], match[3]
        if scope != self.scope:
            what = f"'{cut(match[0])}' refers to nothing"
            hint = f"write $({self.scope}.{cut(name)}), and declare it: variables: {{{cut(name)}: …}}"
            self._tell(node, path, what, hint)
        elif any(map(str.isspace, match[0])):
            self._tell(node, path, f"'{cut(match[0])}' holds a space", f"write $({scope}.{cut(name.strip())})")
        elif self.values is None:
            self._tell(node, path, *self.why)
        elif name not in self.values:
            kind = "variable" if scope == VARIABLE else "axis of the matrix"
            hint = did_you_mean(name, self.values, "there are")
            self._tell(node, path, f"there is no {kind} '{cut(name)}'", hint)
        elif self.values[name] is None:
            self.wrong.add(path)
        return self.values[name] if self.values is not None and name in self.values and scope == self.scope else None

    def _tell(self, node: Node, path: Path, what: str, hint: str) -> None:
        self.wrong.add(path)
        if not self.silent:
            where = f"{PIPELINE_FILE}:{node.line}:{node.column}: {show_path(path)}"
            self.problems[Problem(where, what, hint)] = None


def _differ(one: Node, other: Node) -> bool:
    return one is not other
