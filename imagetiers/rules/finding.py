"""What a rule has found, as a plan remembers it; what it costs and how it is cured, the rule itself says."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Finding"]


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that a rule of ours or of hadolint's has found in a tier.

    `what` is a sentence without its full stop. `is_error`: surely not meant, so that nothing is pushed with it.
    """

    rule: str
    tier: str
    file: str
    line: int
    what: str
    is_error: bool

    @property
    def where(self) -> str:
        """The place, as messages have it."""
        return f"{self.file}:{self.line}"
