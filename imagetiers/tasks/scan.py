"""The tasks `scan` and `scan:diff`: known vulnerabilities of images, and how two of them differ."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from doit.exceptions import TaskFailed

from imagetiers.errors import Problem
from imagetiers.session import Session
from imagetiers.tasks.invocation import Act

__all__ = ["scan_tasks"]

_TWO = 2

Wrong = Callable[[Mapping[str, Any], list[str]], list[Problem]]


def scan_tasks(act: Act, unknown_tiers: Wrong) -> Iterator[dict[str, Any]]:
    """Yield the tasks; `unknown_tiers` says which words are no tiers."""

    def scan(tiers: list[str]) -> TaskFailed | None:
        from imagetiers.operations.scan import show_scans

        def show(session: Session) -> None:
            show_scans(session, [session.plan.tiers[name] for name in tiers or session.plan.images])

        return act(show)

    def diff(images: list[str]) -> TaskFailed | None:
        from imagetiers.operations.scan import diff_scans

        return act(lambda session: diff_scans(session, *images))

    def not_two(_options: Mapping[str, Any], images: list[str]) -> list[Problem]:
        what = f"takes two images, and was given {len(images)}"
        hint = "doit scan:diff A B: tiers, keys, tags or digests"
        return [] if len(images) == _TWO else [Problem("doit scan:diff", what, hint)]

    yield {
        "basename": "scan",
        "actions": [scan],
        "doc": "hold images against the vulnerabilities that pipeline.yaml's scan: lets pass: doit scan [TIER...]",
        "pos_arg": "tiers",
        "meta": {"quiet": True, "wrong": unknown_tiers},
    }
    yield {
        "basename": "scan:diff",
        "actions": [diff],
        "doc": "show which vulnerabilities one image has and another has not: doit scan:diff A B",
        "pos_arg": "images",
        "meta": {"quiet": True, "wrong": not_two},
    }
