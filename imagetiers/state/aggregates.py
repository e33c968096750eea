"""Records of long ago, folded into one document a tier and kind, so that forecasts still have data. Pure.

    {"format": 1, "folded": "<name of the last record that is in here>",
     "groups": [{"pipeline": "...", "variant": "...", "change": "...", "cpus": n,
                 "count": n, "seconds": <sum>, "low": <s>, "high": <s>, "recent": [[<began>, <seconds>], ...]}]}

`recent` are the newest builds of a group, as many as a forecast uses; the others are in the sums only. Records are
folded in the order of their names, which begin with the time; one that turns up later than `folded` is not counted.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from imagetiers.planning.forecast import USED, BuildProfile, Sample

__all__ = ["AGGREGATE", "Aggregate", "Group", "decode_aggregate", "encode_aggregate", "fold"]

AGGREGATE = "0-aggregate.json"
"""The document's name, beside the records: it sorts before all of them."""

AGGREGATE_MAX = 4 * 1024 * 1024
"""Most bytes of such a document."""

_FORMAT = 1


@dataclass(frozen=True, slots=True)
class Group:
    """Builds that are like each other: how many, their seconds in all, the shortest, the longest, the newest."""

    count: int = 0
    seconds: float = 0.0
    low: float = math.inf
    high: float = 0.0
    recent: tuple[tuple[float, float], ...] = ()


@dataclass(frozen=True, slots=True)
class Aggregate:
    """All groups of a tier's compiles or images, and the name of the last record that is in them."""

    folded: str = ""
    groups: Mapping[BuildProfile, Group] = field(default_factory=dict)

    def samples(self) -> list[Sample]:
        """Return the newest builds of each group, as a record would tell them."""
        return [Sample(like, began, seconds) for like, group in self.groups.items() for began, seconds in group.recent]


def fold(aggregate: Aggregate, records: Iterable[tuple[str, Sample | None]]) -> Aggregate:
    """Take records, by name, into an aggregate. One that says nothing (None) is only passed."""
    groups = dict(aggregate.groups)
    folded = aggregate.folded
    for name, sample in sorted(records, key=lambda record: record[0]):
        if name <= folded:
            continue
        folded = name
        if sample is None:
            continue
        old = groups.get(sample.like, Group())
        groups[sample.like] = Group(
            old.count + 1,
            old.seconds + sample.seconds,
            min(old.low, sample.seconds),
            max(old.high, sample.seconds),
            tuple(sorted((*old.recent, (sample.began, sample.seconds)))[-USED:]),
        )
    return Aggregate(folded, groups)


def encode_aggregate(aggregate: Aggregate) -> bytes:
    """Encode an aggregate as JSON."""
    groups = [
        {
            "pipeline": like.pipeline,
            "variant": like.variant,
            "change": like.change,
            "cpus": like.cpus,
            "count": group.count,
            "seconds": group.seconds,
            "low": group.low,
            "high": group.high,
            "recent": [list(pair) for pair in group.recent],
        }
        for like, group in aggregate.groups.items()
    ]
    document = {"format": _FORMAT, "folded": aggregate.folded, "groups": groups}
    return json.dumps(document, sort_keys=True, separators=(",", ":")).encode()


def decode_aggregate(data: bytes) -> Aggregate:
    """Read an aggregate. Raises ValueError."""
    try:
        document: Any = json.loads(data) if len(data) <= AGGREGATE_MAX else None
        if document["format"] != _FORMAT or not isinstance(document["folded"], str):
            raise ValueError("an aggregate of another format")
        return Aggregate(document["folded"], dict(map(_group, document["groups"])))
    except (KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ValueError("no aggregate") from error


def _group(value: Mapping[str, Any]) -> tuple[BuildProfile, Group]:
    like = BuildProfile(
        _text(value["pipeline"]), _text(value["variant"]), _text(value["change"]), _whole(value["cpus"])
    )
    recent = tuple((_number(began), _number(seconds)) for began, seconds in value["recent"][:USED])
    seconds, low, high = (_number(value[name]) for name in ("seconds", "low", "high"))
    return like, Group(_whole(value["count"]), seconds, low, high, recent)


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError
    return value


def _number(value: object) -> float:
    if not isinstance(value, int | float) or isinstance(value, bool) or not math.isfinite(value) or value < 0:
        raise TypeError
    return float(value)


def _whole(value: object) -> int:
    if type(value) is not int or value < 0:
        raise TypeError
    return value
