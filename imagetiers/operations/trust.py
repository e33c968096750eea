"""trust:init, trust:rotate, trust:status: make signing keys, and say who has signed what."""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path

from imagetiers.errors import NotFoundError, OutputError, PipelineError, Problem, UntrustedError, os_problem
from imagetiers.planning.plan import Plan
from imagetiers.session import Session
from imagetiers.signing.statements import new_key, purpose_of

__all__ = ["first_key", "next_key", "show"]

_SHOWN = 20


def first_key(session: Session, *, out: str, name: str) -> None:
    """Make a key pair and say what to write into pipeline.yaml. Raises PipelineError, OutputError."""
    if session.plan.pipeline.trust.keys:
        raise PipelineError(Problem("trust:init", "pipeline.yaml has keys already", "doit trust:rotate makes the next"))
    name, public = _make(session.plan, out, name or "first")
    session.services.console.line(
        f"the private key is in {out}; trusted builds get its path or text as IMAGETIERS_SIGNING_KEY"
    )
    entry = f'    - {{name: {name}, ed25519: "{public}"}}'
    session.services.console.line(f"write into pipeline.yaml:\ntrust:\n  keys:\n{entry}\n  require: false")
    session.services.console.line(
        "require: true when every trusted build has the key and doit trust:status shows what is signed"
    )


def next_key(session: Session, *, out: str, name: str) -> None:
    """Make the key pair that takes over, and say what to do in which order. Raises PipelineError, OutputError."""
    keys = session.plan.pipeline.trust.keys
    if not keys:
        raise PipelineError(Problem("trust:rotate", "pipeline.yaml has no keys yet", "doit trust:init makes the first"))
    name, public = _make(session.plan, out, name or f"key-{len(keys) + 1}")
    session.services.console.line(f"the private key is in {out}\n1. add to trust.keys, on every branch that builds:")
    session.services.console.line(f'    - {{name: {name}, ed25519: "{public}"}}')
    session.services.console.line("2. then let trusted builds sign with the new key: IMAGETIERS_SIGNING_KEY")
    old = next((key.name for key in reversed(keys) if key.revoked is None), keys[-1].name)
    session.services.console.line(f"3. when none signs with '{old}' any more, write beside it: revoked: YYYY-MM-DD")


def _make(plan: Plan, out: str, name: str) -> tuple[str, str]:
    if any(key.name == name for key in plan.pipeline.trust.keys):
        raise PipelineError(Problem("--key", f"there is a key '{name}' already", "take another name"))
    private, public = new_key()
    try:
        descriptor = os.open(Path(out), os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(private)
    except FileExistsError:
        raise OutputError(Problem(out, "is there already", "a private key is never written over")) from None
    except OSError as error:
        raise OutputError(os_problem(error)) from error
    return name, public


def show(session: Session) -> None:
    """Show the keys, and of the objects that trusted builds share who has signed how many. Raises StoreError."""
    trust = session.plan.pipeline.trust
    if not trust.keys:
        session.services.console.line("pipeline.yaml has no trust.keys, so nothing is signed or checked")
        return
    session.services.console.line(
        "signatures are required" if trust.require else "signatures are checked, but not required"
    )
    for key in trust.keys:
        session.services.console.line(f"key {key.name}: " + (f"revoked from {key.revoked}" if key.revoked else "good"))
    counts: Counter[tuple[str, str]] = Counter()
    refused = 0
    signed_by = getattr(session.services.store, "signed_by", None)
    for blob in session.services.store.list():
        purpose = purpose_of(blob.name)
        if not purpose or signed_by is None:
            continue
        try:
            by = signed_by(blob.name)
        except NotFoundError:
            continue
        except UntrustedError as error:
            refused += 1
            if refused <= _SHOWN:
                session.services.console.line(f"refused: {error.problems[0].where}: {error.problems[0].what}")
            by = "nobody who is trusted"
        counts[purpose, f"signed by {by}" if by else "not signed"] += 1
    for (purpose, by), count in sorted(counts.items()):
        session.services.console.line(f"{purpose}: {count} {by}")
