"""YAML with places: every value knows its line and column, and hostile input meets a bound instead of the memory.

The events come from PyYAML's C parser (libyaml); the tree is built here without recursion, because neither PyYAML's
constructors (they lose the places) nor its composer (recursive) do. Scalars follow the YAML 1.2 core schema: `no` and
`12:30` are texts, `2.10` is a number and remembers how it was written.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import yaml

from imagetiers.errors import PipelineError, Problem
from imagetiers.repository_file import decode

__all__ = ["MAX_NODES", "Node", "Path", "is_text", "merge_patch", "parse_yaml", "show_path"]

MAX_BYTES = 8 << 20
MAX_DEPTH = 32
MAX_NODES = 400_000

Scalar = str | int | float | bool | None
Path = tuple[str | int, ...]
Place = tuple[int, int]  # line and column, from 1

_NULL = re.compile(r"|~|null|Null|NULL")
_BOOL = re.compile(r"true|True|TRUE|false|False|FALSE")
_INT = re.compile(r"[-+]?[0-9]{1,18}|0x[0-9a-fA-F]{1,15}|0o[0-7]{1,20}")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]{1,3})?")


@dataclass(frozen=True, slots=True)
class Node:
    """A YAML value and its place (line and column from 1). `text` is a scalar as it was written, `quoted` or plain."""

    value: Scalar | dict[str, Node] | list[Node]
    line: int
    column: int
    text: str = ""
    keys: Mapping[str, Node] | None = None  # of a mapping: where each key is written
    removed: Mapping[str, Node] | None = None  # of a patched mapping: the keys of the nulls that removed something
    quoted: bool = False

    def plain(self) -> Any:
        """Return the value without places, as JSON knows it."""
        if isinstance(self.value, dict):
            return {key: node.plain() for key, node in self.value.items()}
        if isinstance(self.value, list):
            return [node.plain() for node in self.value]
        return self.value

    def at(self, path: Path) -> Node:
        """Return the node at `path`, or the nearest one above it that exists."""
        node = self
        for part in path:
            below: Node | None = None
            if isinstance(node.value, dict) and isinstance(part, str):
                below = node.value.get(part)
            elif isinstance(node.value, list) and isinstance(part, int) and part < len(node.value):
                below = node.value[part]
            if below is None:
                break
            node = below
        return node

    def key_at(self, path: Path) -> Node:
        """Return the node of the key that `path` ends in: the place to point at for a wrong key."""
        parent = self.at(path[:-1])
        if path and parent.keys is not None and isinstance(path[-1], str) and path[-1] in parent.keys:
            return parent.keys[path[-1]]
        return self.at(path)


def show_path(path: Path) -> str:
    """Return a path as people write it: `tiers.arr-base.bases[0]`."""
    text = ""
    for part in path:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else part
    return text.replace("\n", "\\n")


def parse_yaml(data: bytes, name: str) -> Node:
    """Read one YAML document; `name` is what messages call the file.

    Raises PipelineError on bad syntax, wrong encoding, duplicate keys, anchors, tags, several documents, and beyond the
    bounds MAX_BYTES, MAX_DEPTH, MAX_NODES.
    """
    if len(data) > MAX_BYTES:
        raise PipelineError(
            Problem(
                name,
                f"is {len(data):,} bytes long; the limit is {MAX_BYTES:,}",
                "is it the right file?",
            )
        )
    text = decode(data, name)
    control = _CONTROL.search(text)
    if control is not None:
        line, column = text.count("\n", 0, control.start()) + 1, control.start() - text.rfind("\n", 0, control.start())
        what = f"holds the control character U+{ord(control[0]):04X}"
        raise PipelineError(Problem(f"{name}:{line}:{column}", what, "remove it"))
    try:
        return _Builder(name).build(yaml.parse(text, Loader=_Loader))
    except yaml.MarkedYAMLError as error:
        # What is open at the end of the file was opened where the context began.
        at_end = error.problem is not None and "end of stream" in error.problem
        mark = (at_end and error.context_mark) or error.problem_mark or error.context_mark
        where = f"{name}:{mark.line + 1}:{mark.column + 1}" if mark else name
        what = " ".join(part for part in (error.context, error.problem) if part)
        hint = _TAB_HINT if mark and _is_tab(text, mark.line, mark.column) else _syntax_hint(what)
        raise PipelineError(Problem(where, f"not YAML: {what}", hint)) from None
    except yaml.YAMLError as error:  # control characters: a ReaderError without a mark
        raise PipelineError(
            Problem(name, f"not YAML: {' '.join(str(error).split())}", "save the file as plain UTF-8 text")
        ) from None


# The C parser where PyYAML was built with it (all its wheels are), else the same in Python.
_Loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


# YAML 1.2's c-printable are all others; a quoted escape can bring these, too.
_CONTROL = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x84\x86-\x9f\ud800-\udfff\ufffe\uffff]")
_TAB_HINT = "a tab: indent with spaces"


def _is_tab(text: str, line: int, column: int) -> bool:
    lines = text.splitlines()
    return line < len(lines) and lines[line][column : column + 1] == "\t"


def _syntax_hint(what: str) -> str:
    if "tab" in what or "\\t" in what:
        return _TAB_HINT
    if "escape" in what:
        return "between double quotes a \\ begins an escape: write \\\\, or single quotes"
    if "mapping values are not allowed" in what:
        return "a value that holds ': ' must be quoted"
    return "check the indentation and the quotes on this line and the one above"


@dataclass(slots=True)
class _Open:
    """A collection that is not closed yet."""

    place: Place
    mapping: bool
    items: list[Node]
    entries: dict[str, Node]
    keys: dict[str, Node]
    key: Node | None = None


class _Builder:
    """Builds the tree from parser events; collects what can be reported together, stops at what makes no sense to go on."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.problems: list[Problem] = []
        self.stack: list[_Open] = []
        self.root: Node | None = None
        self.nodes = 0
        self.documents = 0

    def build(self, events: Iterator[yaml.Event]) -> Node:
        for event in events:
            self._take(event)
        PipelineError.raise_if(self.problems)
        return self.root or Node(None, 1, 1)

    def _stop(self, place: Place, what: str, hint: str) -> None:
        self.problems.append(Problem(f"{self.name}:{place[0]}:{place[1]}", what, hint))
        raise PipelineError(*self.problems)

    def _take(self, event: yaml.Event) -> None:
        mark = _place(event)
        if isinstance(event, yaml.DocumentStartEvent):
            self.documents += 1
            if self.documents > 1:
                self._stop(mark, "a second YAML document begins", "one file holds one pipeline; remove the '---'")
        elif isinstance(event, yaml.AliasEvent) or getattr(event, "anchor", None):
            self._stop(mark, "anchors and aliases (& and *) are not supported", "repeat the value, or use a variant")
        elif isinstance(event, yaml.ScalarEvent):
            self._check_tag(event)
            control = _CONTROL.search(event.value)
            if control is not None:
                self._stop(mark, f"holds the control character U+{ord(control[0]):04X}", "remove it")
            # A quoted one is a string like any other.
            if event.value == "<<" and event.implicit[0] and self._wants_key():
                self._stop(mark, "merge keys (<<) are not supported", "repeat the keys, or use a variant")
            self._add(_scalar(event))
        elif isinstance(event, yaml.MappingStartEvent | yaml.SequenceStartEvent):
            self._check_tag(event)
            if len(self.stack) >= MAX_DEPTH:
                self._stop(mark, f"nested deeper than {MAX_DEPTH} levels", "a pipeline needs six")
            self.stack.append(_Open(mark, isinstance(event, yaml.MappingStartEvent), [], {}, {}))
        elif isinstance(event, yaml.MappingEndEvent | yaml.SequenceEndEvent):
            done = self.stack.pop()
            value: dict[str, Node] | list[Node] = done.entries if done.mapping else done.items
            self._add(Node(value, *done.place, keys=done.keys if done.mapping else None))

    def _wants_key(self) -> bool:
        return bool(self.stack) and self.stack[-1].mapping and self.stack[-1].key is None

    def _check_tag(self, event: yaml.NodeEvent) -> None:
        tag = getattr(event, "tag", None)
        if tag is not None and tag != "!":
            self._stop(_place(event), f"the tag {tag} is not supported", "write the plain value")

    def _add(self, node: Node) -> None:
        self.nodes += 1
        if self.nodes > MAX_NODES:
            self._stop(
                (node.line, node.column), f"this file holds more than {MAX_NODES:,} values", "a pipeline is smaller"
            )
        if not self.stack:
            self.root = node
            return
        top = self.stack[-1]
        if not top.mapping:
            top.items.append(node)
        elif top.key is None:
            top.key = self._key(node)
        else:
            top.entries.setdefault(top.key.text, node)
            top.key = None

    def _key(self, node: Node) -> Node:
        top = self.stack[-1]
        where = f"{self.name}:{node.line}:{node.column}"
        if isinstance(node.value, dict | list):
            raise PipelineError(*self.problems, Problem(where, "a key must be a plain string", "remove the brackets"))
        first = top.keys.get(node.text)
        if first is not None:
            what = f"the key '{node.text}' stands here a second time (first: line {first.line})"
            self.problems.append(Problem(where, what, "remove one of the two"))
        top.keys.setdefault(node.text, node)
        return node


def _place(event: yaml.Event) -> Place:
    mark = event.start_mark
    return (mark.line + 1, mark.column + 1) if mark is not None else (1, 1)


def _scalar(event: yaml.ScalarEvent) -> Node:
    text = event.value
    value: Scalar = text
    if event.implicit[0]:  # plain style: the text decides its type
        if _NULL.fullmatch(text):
            value = None
        elif _BOOL.fullmatch(text):
            value = text.lower() == "true"
        elif _INT.fullmatch(text):
            value = int(text, 0) if text[:2] in ("0x", "0o") else int(text)
        elif _FLOAT.fullmatch(text):
            value = float(text)
    return Node(value, *_place(event), text=text, quoted=not event.implicit[0])


def is_text(plain: str) -> bool:
    """Say whether a plain scalar of these characters is read as a string."""
    return not any(form.fullmatch(plain) for form in (_NULL, _BOOL, _INT, _FLOAT))


def merge_patch(target: Node, patch: Node) -> Node:
    """Apply a JSON merge patch (RFC 7386): mappings merge, null removes, everything else replaces. Places are kept."""
    if not isinstance(patch.value, dict):
        return patch
    base = target.value if isinstance(target.value, dict) else {}
    entries = dict(base)
    keys = dict(target.keys or {})
    removed: dict[str, Node] = {}
    for key, node in patch.value.items():
        if node.value is None:
            entries.pop(key, None)
            keys.pop(key, None)
            removed[key] = (patch.keys or {}).get(key, node)
            continue
        before = entries.get(key)
        if before is None or not isinstance(before.value, dict):
            before = Node({}, node.line, node.column, keys={})
        entries[key] = merge_patch(before, node)
        if patch.keys is not None and key not in keys:
            keys[key] = patch.keys[key]
    place = target if isinstance(target.value, dict) and target.value else patch
    return Node(entries, place.line, place.column, keys=keys, removed=removed)
