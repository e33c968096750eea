"""What a schema cannot say of declared checks. Reads the tree, so that a wrong type elsewhere hides nothing. Pure."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterator

from imagetiers.config.layout import PIPELINE_FILE
from imagetiers.config.schema import place
from imagetiers.config.yamltree import Node
from imagetiers.config.yamltree import Path as KeyPath
from imagetiers.errors import Problem

__all__ = ["check_problems"]


def check_problems(tree: Node, tier: str) -> Iterator[Problem]:
    """Yield what is wrong with what a tier declares under `verify`."""
    verify: KeyPath = ("tiers", tier, "verify")
    node = tree.at(verify)
    if node is tree or not isinstance(node.value, dict):
        return
    given = node.plain()
    commands, files = given.get("commands"), given.get("files")
    for index, command in enumerate(commands if isinstance(commands, list) else ()):
        pattern = command.get("matches") if isinstance(command, dict) else None
        wrong = _regex(pattern) if isinstance(pattern, str) else ""
        if wrong:
            where = place(tree, (*verify, "commands", index, "matches"), PIPELINE_FILE)
            yield Problem(where, f"is no regular expression: {wrong}", "a text as it is goes under output")
    for path in files if isinstance(files, dict) else ():
        if path.startswith("/") and posixpath.normpath(path) != path:
            where = place(tree, (*verify, "files", path), PIPELINE_FILE, key=True)
            yield Problem(where, f"'{path[:60]}' is not written as files are", f"write {posixpath.normpath(path)[:60]}")


def _regex(pattern: str) -> str:
    try:
        re.compile(pattern)
    except (re.error, RecursionError, OverflowError) as error:
        return str(error)
    return ""
