"""What a schema says badly or not at all of single values: places, references, sizes, arguments. Pure, but for one look.

The texts here go before those of the schema for the same value.
"""

from __future__ import annotations

import math
import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path as Folder

from imagetiers.config.layout import DEFAULT_CACHE, IMAGES, KEPT, PIPELINE_FILE
from imagetiers.config.output import dest_fault
from imagetiers.config.quantities import parse_age, parse_duration, parse_size
from imagetiers.config.references import check_image, check_place
from imagetiers.config.schema import place
from imagetiers.config.yamltree import Node
from imagetiers.config.yamltree import Path as KeyPath
from imagetiers.errors import Problem
from imagetiers.repository_file import Reads, kind_of_file

__all__ = ["form_problems"]

_BUCKET = re.compile(r"gs://[a-z0-9][a-z0-9._-]{1,220}[a-z0-9](?:/[^\s/]+)*/?")
_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+:/")
_KEY_TAG = re.compile(r"[0-9a-f]{12}")
_SHOWN = 60  # characters of a name in a message
_LONGEST_PATH = 1000
# An argument is one word of a command line, which the kernel ends at 128 KiB (MAX_ARG_STRLEN).
_LONGEST_ARG = 100_000
_PORT = re.compile(r"://[^/]*?:([0-9]+)/")
_LARGEST_PORT = 65535
_SMALLEST, _LARGEST = 1 << 20, 1 << 60  # bytes
_DAY = 86_400  # seconds
_SHORTEST_AGE = 3600

Check = Callable[[str], tuple[str, str] | None]


def form_problems(tree: Node, root: Folder, reads: Reads) -> Iterator[tuple[KeyPath, Problem]]:
    """Yield (path, problem) of values of the right type and the wrong form. `root` is what a cache's folder lies in."""
    checks: list[tuple[KeyPath, Check]] = [
        (("registry",), check_place),
        (("channels",), check_place),
        (("cache",), lambda text: _cache(text, root, reads)),
        (("trust", "max_age"), _check_age),
        (("scan", "max_age"), _check_age),
    ]
    for tier in _keys(tree, ("tiers",)):
        checks += _tier_checks(tree, ("tiers", tier))
    yield from _endless(tree)
    for path, check in checks:
        node = _text(tree, path)
        wrong = check(node.text) if node is not None else None
        if wrong is not None:
            what, hint = (text.replace("\n", "\\n") for text in wrong)
            yield path, Problem(place(tree, path, PIPELINE_FILE), what, hint)


def _endless(tree: Node) -> Iterator[tuple[KeyPath, Problem]]:
    """Find numbers that are too large to be one: JSON knows no infinity."""
    todo: list[tuple[KeyPath, Node]] = [((), tree)]
    while todo:
        path, node = todo.pop()
        if isinstance(node.value, dict):
            todo += [((*path, key), value) for key, value in node.value.items()]
        elif isinstance(node.value, list):
            todo += [((*path, index), value) for index, value in enumerate(node.value)]
        elif isinstance(node.value, float) and math.isinf(node.value):
            what = f"{node.text[:40]} is too large a number"
            yield path, Problem(place(tree, path, PIPELINE_FILE), what, "write a smaller one, or quotes around it")


def _tier_checks(tree: Node, tier: KeyPath) -> Iterator[tuple[KeyPath, Check]]:
    yield from (((*tier, "bases", name), check_image) for name in _keys(tree, (*tier, "bases")))
    contexts = (*tier, "contexts")
    yield from (((*contexts, name, "image"), check_image) for name in _keys(tree, contexts))
    yield from (((*contexts, name, "path"), _folder) for name in _keys(tree, contexts))
    yield from (((*tier, "args", name), _argument) for name in _keys(tree, (*tier, "args")))
    yield from (((*tier, "sources", name, "git"), _port) for name in _keys(tree, (*tier, "sources")))
    yield (*tier, "tag"), _tag
    tags = _at(tree, (*tier, "tags"))
    listed = tags.value if tags is not None and isinstance(tags.value, list) else ()
    yield from (((*tier, "tags", number), _tag) for number in range(len(listed)))
    yield (*tier, "image"), _repository
    yield (*tier, "output", "dest"), dest_fault
    yield from (((*tier, "labels", name), _argument) for name in _keys(tree, (*tier, "labels")))
    yield (*tier, "compile", "job_memory"), _size
    yield (*tier, "compile", "memory"), _size
    yield (*tier, "compile", "ccache", "max_size"), _size
    yield (*tier, "budget", "size"), _size
    yield from (((*tier, "budget", name), _limit) for name in ("growth", "layer", "duplicate_bytes"))
    yield (*tier, "verify", "timeout"), _check_time


def _keys(tree: Node, path: KeyPath) -> tuple[str, ...]:
    node = _at(tree, path)
    return tuple(node.value) if node is not None and isinstance(node.value, dict) else ()


def _text(tree: Node, path: KeyPath) -> Node | None:
    node = _at(tree, path)
    return node if node is not None and isinstance(node.value, str) else None


def _at(tree: Node, path: KeyPath) -> Node | None:
    """Return the node at a path, None where there is none."""
    node: Node | None = tree
    for key in path:
        inside = node.value if node is not None else None
        if isinstance(inside, dict):
            node = inside.get(str(key))
        else:
            node = inside[key] if isinstance(inside, list) and isinstance(key, int) else None
    return node


def _cache(text: str, root: Folder, reads: Reads) -> tuple[str, str] | None:
    cure = "write a folder, or gs://BUCKET/PREFIX"
    if text.startswith("gs://"):
        return (
            None
            if _BUCKET.fullmatch(text)
            else (f"'{text[:80]}' names no bucket", "write gs://BUCKET or gs://BUCKET/PREFIX")
        )
    if _SCHEME.match(text):
        return f"'{text[:80]}' is neither a folder nor a bucket of Google Cloud Storage", cure
    if text.startswith("~"):
        return "'~' means nothing here: no shell reads this", "write the whole path"
    if len(text.encode()) > _LONGEST_PATH:
        return f"is longer than {_LONGEST_PATH:,} bytes", cure
    if not text:
        return None  # the schema says what there should be
    return _among_the_own(Folder(os.path.normpath(root / text)), root) or _in_the_way(root / text, cure, reads)


def _among_the_own(folder: Folder, root: Folder) -> tuple[str, str] | None:
    """Say where a cache would lie among the files that keys are made of, or among what imagetiers keeps beside it."""
    cure = f"write a folder of its own, such as {DEFAULT_CACHE}"
    if folder == root:
        return "is the repository itself", cure
    if folder.is_relative_to(root / IMAGES):
        return f"lies in {IMAGES}/, among the files of which images are made", cure
    beside = root / Folder(DEFAULT_CACHE).parent
    if folder == beside or (folder.is_relative_to(beside) and folder.relative_to(beside).parts[0] in KEPT):
        return f"{folder.relative_to(root)} is where imagetiers keeps other things", cure
    return None


def _in_the_way(folder: Folder, cure: str, reads: Reads) -> tuple[str, str] | None:
    """Say what stands where a folder is to be, or above it."""
    for path in (folder, *folder.parents):
        reads.look_at_kind(str(path))
        try:
            kind = kind_of_file(path.stat().st_mode) or "a file"
        except (FileNotFoundError, NotADirectoryError):
            continue  # it is made when it is needed
        except OSError as error:
            shown = path.name if len(path.name) <= _SHOWN else f"{path.name[:_SHOWN]}…"
            return f"'{shown}' cannot be a folder: {error.strerror}", cure
        return None if kind == "a folder" else (f"{path} is {kind}, so no folder can be there", cure)
    return None


def _folder(text: str) -> tuple[str, str] | None:
    cure = "write //FOLDER, from the repository's root"
    parts = text.removeprefix("//").rstrip("/").split("/")
    if not text.startswith("//") or not all(parts):
        return f"'{text[:_SHOWN]}' is not a folder of the repository", cure
    if {".", ".."} & set(parts) or not text.isprintable() or len(text.encode()) > _LONGEST_PATH:
        return f"'{text[:_SHOWN]}' is not the plain path of a folder", cure
    own = Folder(DEFAULT_CACHE).parts[0]
    return (f"{own} is where imagetiers keeps its own things", cure) if parts[0] == own else None


def _argument(text: str) -> tuple[str, str] | None:
    if len(text.encode()) > _LONGEST_ARG:
        return f"is longer than {_LONGEST_ARG:,} bytes", "put it into a file, list that in the manifest, and COPY it"
    return None


def _tag(text: str) -> tuple[str, str] | None:
    if _KEY_TAG.fullmatch(text):
        return f"'{text}' looks like the tag of a key, which must never move", "write another, such as v1 or 2.6.0"
    return None


def _repository(text: str) -> tuple[str, str] | None:
    cure = "write HOST/PATH/NAME, without a tag"
    if "/" not in text:
        return f"'{text[:_SHOWN]}' has no path", cure
    wrong = check_place(text)
    return wrong if wrong is None else (wrong[0], cure)


def _port(text: str) -> tuple[str, str] | None:
    match = _PORT.search(text)
    if match is not None and not 0 < int(match[1][:6]) <= _LARGEST_PORT:
        return f"'{match[1]}' is not a port", "write a number from 1 to 65535"
    return None


def _check_age(text: str) -> tuple[str, str] | None:
    try:
        age = parse_age(text)
    except ValueError:
        return None  # the schema says what the form is
    return None if age >= _SHORTEST_AGE else (f"'{text}' is less than 1h", "write an age such as 30d or 12h")


def _check_time(text: str) -> tuple[str, str] | None:
    try:
        seconds = parse_duration(text)
    except ValueError:
        return None  # the schema says what the form is
    if not seconds:
        return f"'{text}' leaves no time for any check", "write a duration such as 30m"
    return (f"'{text}' is more than a day", "write a duration such as 30m or 2h") if seconds > _DAY else None


def _limit(text: str) -> tuple[str, str] | None:
    """Check a size that may be small, or nothing at all."""
    try:
        return _size(text) if parse_size(text) > _LARGEST else None
    except ValueError:
        return None  # the schema says what the form is


def _size(text: str) -> tuple[str, str] | None:
    try:
        size = parse_size(text)
    except ValueError:
        return None  # the schema says what the form is
    if size < _SMALLEST:
        return f"'{text}' is less than 1M", "write a size such as 500M or 5G"
    return (
        (f"'{text[:40]}' is more than any machine has", "write a size such as 500M or 5G") if size > _LARGEST else None
    )
