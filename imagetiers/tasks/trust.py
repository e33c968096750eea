"""The tasks `trust:<verb>`: the keys that sign what trusted builds share."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from doit.exceptions import TaskFailed

from imagetiers.planning.plan import Plan
from imagetiers.services import Services

__all__ = ["trust_tasks"]

_OUT = {"name": "out", "long": "out", "default": "", "help": "the file that the private key is written to"}
_NAME = {"name": "key", "long": "key", "default": "", "help": "what the key is called, such as main-2026"}


def trust_tasks(
    act: Callable[[Callable[[], None]], TaskFailed | None], plan: Plan, services: Services
) -> Iterator[Any]:
    """Yield the tasks; `act` runs their work and turns failures into texts."""

    def init(out: str, key: str) -> TaskFailed | None:
        from imagetiers.operations import trust as trust_keys

        return act(lambda: trust_keys.first_key(plan, services, out=out, name=key))

    def rotate(out: str, key: str) -> TaskFailed | None:
        from imagetiers.operations import trust as trust_keys

        return act(lambda: trust_keys.next_key(plan, services, out=out, name=key))

    def status() -> TaskFailed | None:
        from imagetiers.operations import trust as trust_keys

        return act(lambda: trust_keys.show(plan, services))

    docs = {
        init: ("make the first signing key (--out FILE)", [_OUT, _NAME]),
        rotate: ("make the signing key that takes over (--out FILE)", [_OUT, _NAME]),
        status: ("show who has signed what in the cache", []),
    }
    for action, (doc, params) in docs.items():
        yield {
            "basename": f"trust:{action.__name__}",
            "doc": doc,
            "params": params,
            "actions": [action],
            "meta": {"quiet": True},
        }
