"""What hadolint has said of Dockerfiles, remembered by their content, its version and its configuration.

The memory is safe to delete, and taken only from a file that nobody but this user could have written.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping

from imagetiers.config.layout import Layout
from imagetiers.services import Lint
from imagetiers.state.sealed import BROKEN, seal, unseal

__all__ = ["lint_key", "recall_lints", "remember_lints"]

_MAGIC = b"imagetiers lints 1\n"
_MOST = 50_000

Lints = Mapping[str, tuple[Lint, ...]]


def lint_key(version: str, config: bytes | None, text: bytes) -> str:
    """Return the name of what a version says of a Dockerfile under a configuration."""
    digest = hashlib.sha256()
    for part in (version.encode(), b"" if config is None else config, text):
        digest.update(len(part).to_bytes(8) + part)
    return digest.hexdigest()


def recall_lints(layout: Layout) -> Lints:
    """Return what was remembered, by `lint_key`; what cannot be read is not there."""
    try:
        entries = json.loads(next(unseal(layout.state / "lints", _MAGIC, 1)))
        return {key: tuple(Lint(*lint) for lint in lints) for key, lints in entries.items()}
    except (*BROKEN, StopIteration):
        return {}


def remember_lints(layout: Layout, known: Lints) -> None:
    """Remember these, the newest where they are too many. Where nothing can be written, nothing is remembered."""
    kept = dict(list(known.items())[-_MOST:])
    entries = {key: [[lint.code, lint.level, lint.line, lint.message] for lint in lints] for key, lints in kept.items()}
    seal(layout.state / "lints", _MAGIC, (json.dumps(entries).encode(),))
