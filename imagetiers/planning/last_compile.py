"""What the last compile of a line has compiled again, and why. Pure."""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import Enum
from typing import Any

__all__ = ["LastCompile", "Missed", "Why"]

MAX_MISSED = 1000
_TEXT_MAX = 500


class Why(Enum):
    """Why an object was no hit. The value is what people read."""

    NEVER = "never compiled before"
    SOURCE = "its source changed"
    HEADER = "a header changed"
    FLAGS = "flags changed"
    TOOLCHAIN = "the toolchain changed"
    EVICTED = "not in the cache any more"


@dataclass(frozen=True, slots=True)
class Missed:
    """An object that was compiled, the seconds that it took, and why; `detail` is the header, the flags, the compiler."""

    object: str
    source: str
    why: Why
    detail: str = ""
    seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class LastCompile:
    """A compile of the key that began then (Unix s): its hits and misses in all, and those misses that took longest.

    `saved` are the seconds that its hits have saved, None where too little is known of that; `compiled` those of its misses.
    """

    key: str
    began: float
    hits: int
    misses: int
    saved: float | None = None
    compiled: float = 0.0
    missed: tuple[Missed, ...] = ()

    def document(self) -> dict[str, Any]:
        """Return it as JSON types; of so many misses the longest."""
        longest = sorted(self.missed, key=lambda one: (-one.seconds, one.object))[:MAX_MISSED]
        return {
            "key": self.key,
            "began": self.began,
            "hits": self.hits,
            "misses": self.misses,
            "saved": self.saved,
            "compiled": self.compiled,
            "missed": [
                [one.object, one.source, one.why.name, one.detail[:_TEXT_MAX], round(one.seconds, 3)] for one in longest
            ],
        }

    @classmethod
    def read(cls, document: object) -> LastCompile | None:
        """Read what `document` made; None for anything else."""
        match document:
            case {
                "key": str() as key,
                "began": int() | float() as began,
                "hits": int() as hits,
                "misses": int() as misses,
                "saved": int() | float() | None as saved,
                "compiled": int() | float() as compiled,
                "missed": list() as rows,
            } if all(math.isfinite(number) for number in (began, saved or 0.0, compiled)):
                missed = tuple(one for row in rows[:MAX_MISSED] if (one := _missed(row)) is not None)
                return cls(key, float(began), hits, misses, saved, float(compiled), missed)
            case _:
                return None


def _missed(row: object) -> Missed | None:
    match row:
        case [str() as target, str() as source, str() as why, str() as detail, int() | float() as seconds] if (
            why in Why.__members__ and math.isfinite(seconds)
        ):
            return Missed(target, source, Why[why], detail, float(seconds))
        case _:
            return None
