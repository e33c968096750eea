"""Names of a bounded length that still differ where what they name does."""

from __future__ import annotations

import hashlib

__all__ = ["ending_in_hash"]


def ending_in_hash(name: str, text: str, most: int) -> str:
    """Cut a name so that a hash of `text`, which tells what the name does not, ends it within `most` characters."""
    return f"{name[: most - 9]}-{hashlib.sha256(text.encode()).hexdigest()[:8]}"
