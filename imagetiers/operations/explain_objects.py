"""explain --objects: of the last compile of each tier, which objects were compiled again, and why."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable
from dataclasses import asdict

from imagetiers.planning.last_compile import LastCompile
from imagetiers.report.misses import misses_text
from imagetiers.session import Session
from imagetiers.state.objects import known_objects
from imagetiers.visible import visible_json

__all__ = ["explain_objects"]


def explain_objects(session: Session, names: Iterable[str], *, as_json: bool) -> None:
    """Print the misses of the named tiers (all that compile, if none is named). The names are the plan's own."""
    tiers = [session.plan.tiers[name] for name in dict.fromkeys(names)] or list(session.plan.tiers.values())
    compiling = [(tier.name, tier.compile) for tier in tiers if tier.compile is not None]
    found = {name: known_objects(session, step).last for name, step in compiling}
    if as_json:
        listed = [{"tier": name, "last": _document(last) if last is not None else None} for name, last in found.items()]
        text = json.dumps({"version": 1, "tiers": listed}, indent=2, sort_keys=True, ensure_ascii=False)
        sys.stdout.write(visible_json(text) + "\n")
        return
    now = session.services.now()
    lines = [misses_text(name, last, now) for name, last in found.items()]
    lines += [
        f"{tier.name}: compiles nothing"
        for tier in tiers
        if tier.compile is None and len(tiers) < len(session.plan.tiers)
    ]
    session.services.console.line("\n".join(lines) or "no tier compiles anything")


def _document(last: LastCompile) -> dict[str, object]:
    """Return a compile for programs: what the cache keeps as rows has names here."""
    missed = [{**asdict(one), "why": one.why.value} for one in last.missed]
    return {**last.document(), "missed": missed}
