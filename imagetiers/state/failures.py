"""What the last checks of an image have found wrong, beside the verdicts of those that have passed, and never taken for one.

The object has a name of its own, which no reader of verdicts asks for, so that nothing is skipped and nothing moved because
of it. It is of an image and of these very checks, signed as verdicts are; an untrusted build's lies with all that it writes.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from typing import Any

from imagetiers.building.masking import mask_lines
from imagetiers.building.secrets import known_secrets
from imagetiers.config.model import Trust
from imagetiers.documents import parse_object
from imagetiers.errors import CorruptError, NotFoundError, StoreError
from imagetiers.judging.outcome import FailedCheck, FailedVerdict
from imagetiers.planning.plan import TierPlan
from imagetiers.session import Session
from imagetiers.state.registry import passed_before, verdict_name
from imagetiers.stores.limited import LimitedStore

__all__ = ["failure_name", "keep_failure", "last_failure"]

_SECONDS = 10.0  # for the write: the time of the task may be over, and its error is what counts
_MOST = 50  # checks
_LONGEST_NAME, _LONGEST_LINE = 200, 400  # characters
_LATEST = 1e11  # Unix seconds: what is later is no time


def failure_name(tier: TierPlan, image: str, trust: Trust) -> str:
    """Return the name under which the cache keeps what the last checks of an image (its id) have found wrong."""
    return verdict_name(tier, image, trust).removesuffix(".json") + ".failed.json"


def keep_failure(session: Session, tier: TierPlan, image: str, failed: Iterable[FailedCheck]) -> None:
    """Keep what has failed, without secrets and within bounds. A cache that does not take it costs a line."""
    every = list(failed)
    document = {
        "passed": False,
        "tier": tier.name,
        "key": tier.key,
        "at": round(session.services.now()),
        "failed": _rows(session, every[:_MOST]),
        "more": len(every[_MOST:]),
    }
    store = LimitedStore(session.services.store, lambda: _SECONDS)
    try:
        store.write(failure_name(tier, image, session.trust), json.dumps(document, sort_keys=True).encode())
    except StoreError as error:
        session.services.console.line(f"verify:{tier.name}: what has failed was not kept in the cache: {error}")


def last_failure(session: Session, tier: TierPlan, image: str, *, passed: bool) -> FailedVerdict | None:
    """Return what the last checks of an image have found wrong, None where there is nothing, or it has passed since.

    `passed` says whether it is known to have passed at some time. Of two builds, a trusted one and this untrusted one, the
    later counts, by the store's clock. What is not signed as it must be is as if it was not there. Raises StoreError.
    """
    store, trusts = session.services.store, tuple(dict.fromkeys((Trust(), session.trust)))
    latest, at = None, -math.inf
    for trust in trusts:
        name = failure_name(tier, image, trust)
        try:
            data, _ = store.read(name)
        except (NotFoundError, CorruptError):
            continue
        found, blob = _read(parse_object(data) or {}, trust), store.stat(name)
        if found is not None and blob is not None and blob.updated > at:
            latest, at = found, blob.updated
    if latest is None or not (passed or passed_before(session, tier, image) is not None):
        return latest
    blobs = [store.stat(verdict_name(tier, image, trust)) for trust in trusts]
    since = max((blob.updated for blob in blobs if blob is not None), default=math.inf)
    return latest if at > since else None


def _rows(session: Session, failed: list[FailedCheck]) -> list[list[str]]:
    """Return what is kept of each check. Secrets go before anything is cut, so that no half of one is left."""
    plan = session.plan
    secrets = tuple(known_secrets((each.config for each in plan.tiers.values()), session.layout, session.trust))
    rows = []
    for each in failed:
        name, line, *_ = mask_lines([each.check, *(each.line.splitlines() or [""])], secrets)
        rows.append([each.tier, name[:_LONGEST_NAME], line[:_LONGEST_LINE]])
    return rows


def _read(document: Mapping[str, Any], trust: Trust) -> FailedVerdict | None:
    """Read a failure; None for what is none."""
    match document:
        case {"passed": False, "at": int(at), "failed": [_, *_] as rows, "more": int(more)} if (
            0 <= at < _LATEST and more >= 0
        ):
            checks = tuple(check for row in rows[:_MOST] if (check := _check(row)) is not None)
            return FailedVerdict(at, trust.label, checks, more + len(rows) - len(checks)) if checks else None
        case _:
            return None


def _check(row: object) -> FailedCheck | None:
    match row:
        case [str(tier), str(name), str(line)]:
            return FailedCheck(tier, name[:_LONGEST_NAME], line[:_LONGEST_LINE])
        case _:
            return None
