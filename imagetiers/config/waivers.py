"""The waivers of pipeline.yaml, and its policy of scans."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from datetime import date
from types import MappingProxyType

from imagetiers.config.layout import PIPELINE_FILE
from imagetiers.config.matrix import Families
from imagetiers.config.model import ScanClass, ScanPolicy, Waiver
from imagetiers.config.quantities import parse_age
from imagetiers.config.schema import place
from imagetiers.config.yamltree import Node, Path
from imagetiers.errors import Problem

__all__ = ["is_day", "read_scan", "read_waivers", "waiver_problems"]

_DATE = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")


def is_day(text: str) -> bool:
    """Say whether a text is a day of the calendar, as ISO 8601 writes it."""
    try:
        return date.fromisoformat(text).isoformat() == text
    except ValueError:
        return False


def waiver_problems(tree: Node) -> Iterator[Problem]:
    """Yield what a schema cannot say of waivers."""
    for index, waiver in enumerate(_items(tree)):
        given = waiver.plain()
        until = given.get("until") if isinstance(given, dict) else None
        if isinstance(until, str) and _DATE.fullmatch(until) and not is_day(until):
            yield Problem(place(tree, ("waivers", index, "until"), PIPELINE_FILE), "is not a day", "such as 2027-01-31")


def read_waivers(tree: Node, wrong: Collection[Path], families: Families) -> Iterator[Waiver]:
    """Yield the waivers; none where one of them is `wrong`."""
    if not any(path[:1] == ("waivers",) for path in wrong):
        for index, waiver in enumerate(_items(tree)):
            given = waiver.plain()
            where = place(tree, ("waivers", index), PIPELINE_FILE)
            yield Waiver(**given, where=where, cells=families.get(given.get("tier"), ()))


def read_scan(tree: Node, wrong: Collection[Path]) -> ScanPolicy | None:
    """Return the policy of scans; None where there is none, or it is `wrong`."""
    given = tree.at(("scan",))
    if given is tree or given.value is None or any(path[:1] == ("scan",) for path in wrong):
        return None
    values = dict(given.plain())
    if "max_age" in values:
        values["max_age"] = parse_age(values["max_age"])
    classes = {name: ScanClass(**given) for name, given in values.get("classes", {}).items()}
    return ScanPolicy(**{**values, "vex": tuple(values.get("vex", ())), "classes": MappingProxyType(classes)})


def _items(tree: Node) -> list[Node]:
    given = tree.at(("waivers",))
    return given.value if given is not tree and isinstance(given.value, list) else []
