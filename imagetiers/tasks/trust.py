"""The tasks `trust:<verb>`: the keys that sign what trusted builds share."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from doit.exceptions import TaskFailed

from imagetiers.errors import Problem
from imagetiers.tasks.invocation import Act
from imagetiers.tasks.options import form, option, string

__all__ = ["trust_tasks"]

_NO_FILE = ("says no file", "a path outside of the repository, for the private key")
_OUT = option("out", "the file that the private key is written to", string(*_NO_FILE), default="")


def _key(value: str) -> str:
    """Read the name of a key. Raises ValueError."""
    from imagetiers.signing.statements import KEY_NAME

    name: str = form(KEY_NAME, "is not the name of a key", "such as main-2026")(value)
    return name


_NAME = option("key", "what the key is called, such as main-2026", _key, default="")


def trust_tasks(act: Act) -> Iterator[Any]:
    """Yield the tasks; `act` runs their work in a session and turns failures into texts."""

    def init(out: str, key: str) -> TaskFailed | None:
        from imagetiers.operations import trust as trust_keys

        return act(lambda session: trust_keys.first_key(session, out=out, name=key))

    def rotate(out: str, key: str) -> TaskFailed | None:
        from imagetiers.operations import trust as trust_keys

        return act(lambda session: trust_keys.next_key(session, out=out, name=key))

    def status() -> TaskFailed | None:
        from imagetiers.operations import trust as trust_keys

        return act(trust_keys.show)

    docs = {
        init: ("make the first signing key (--out FILE)", [_OUT, _NAME]),
        rotate: ("make the signing key that takes over (--out FILE)", [_OUT, _NAME]),
        status: ("show who has signed what in the cache", []),
    }

    def wrong(options: Mapping[str, Any], _: list[str]) -> list[Problem]:
        return [] if options.get("out", "-") else [Problem("--out", *_NO_FILE)]

    for action, (doc, params) in docs.items():
        yield {
            "basename": f"trust:{action.__name__}",
            "doc": doc,
            "params": params,
            "actions": [action],
            "meta": {"quiet": True, "wrong": wrong},
        }
