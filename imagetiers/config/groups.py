"""`groups:` of pipeline.yaml: names for several tiers, which doit has as tasks. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace

from imagetiers.config.layout import PIPELINE_FILE
from imagetiers.config.matrix import Families
from imagetiers.config.schema import cut, place
from imagetiers.config.yamltree import Node
from imagetiers.errors import Problem
from imagetiers.suggestions import did_you_mean

__all__ = ["TASKS", "resolve_groups"]

GROUPS = "groups"
TASKS = frozenset(
    {"bake", "cache", "ccache", "check", "cloudbuild", "compile", "explain", "gc", "image", "lock", "metrics", "plan", "pull",
     "push", "report", "scan", "setup", "size", "status", "teardown", "trust", "tui", "verify", "verify-supply-chain", "watch"}
    | {"auto", "clean", "dumpdb", "forget", "help", "ignore", "info", "list", "reset-dep", "run", "strace", "tabcompletion"}
)  # fmt: skip
"""The names of doit's tasks and commands, which no group can have."""


def resolve_groups(tree: Node, families: Families, problems: dict[Problem, None]) -> Node:
    """Return the tree with the tiers of each group, in place of the groups and the families that it names.

    What names nothing is left out, and is in `problems`.
    """
    section = tree.at((GROUPS,))
    if section is tree or not isinstance(section.value, dict) or not isinstance(tree.value, dict):
        return tree
    tiers = tree.at(("tiers",)).value
    known = tiers if isinstance(tiers, dict) else {}
    problems.update(dict.fromkeys(_names(tree, known, families)))
    members = {name: tuple(_texts(node)) for name, node in section.value.items()}
    problems.update(dict.fromkeys(_unknown(members, known, families)))
    found: dict[str, Node] = {}
    for name, node in section.value.items():
        whole: dict[str, Node] = {}
        seen = {name}
        left = list(reversed(members[name]))
        while left:
            member = left.pop()
            for tier in families.get(member.text, (member.text,) if member.text in known else ()):
                whole.setdefault(tier, replace(member, value=tier, text=tier))
            if member.text in members and member.text not in seen:
                seen.add(member.text)
                left += reversed(members[member.text])
        found[name] = replace(node, value=list(whole.values())) if whole else node
        if members[name] and not whole and all(member.text in members for member in members[name]):
            where = place(tree, (GROUPS, name), PIPELINE_FILE, key=True)
            problems[Problem(where, "comes to no tier: its groups name each other", "name a tier")] = None
    return replace(tree, value={**tree.value, GROUPS: replace(section, value=found)})


def _texts(node: Node) -> Iterator[Node]:
    """Yield a group's members; the schema says what is wrong with what is none."""
    yield from (each for each in node.value if isinstance(each.value, str)) if isinstance(node.value, list) else ()


def _names(tree: Node, tiers: Mapping[str, Node], families: Families) -> Iterator[Problem]:
    groups = tree.at((GROUPS,)).value
    for name in groups if isinstance(groups, dict) else ():
        where = place(tree, (GROUPS, name), PIPELINE_FILE, key=True)
        if name in TASKS:
            yield Problem(where, f"doit {name} is something else", "choose another name")
        elif name in tiers or name in families:
            yield Problem(where, "a tier has that name", "choose another name")


def _unknown(
    members: Mapping[str, tuple[Node, ...]], tiers: Mapping[str, Node], families: Families
) -> Iterator[Problem]:
    for name, listed in members.items():
        known = {*tiers, *families, *members} - {name}
        for member in listed:
            if member.text not in known and member.text != name:
                where = f"{PIPELINE_FILE}:{member.line}:{member.column}: {GROUPS}.{name}"
                hint = did_you_mean(member.text, known, "tiers and groups")
                yield Problem(where, f"there is no tier or group '{cut(member.text)}'", hint)
