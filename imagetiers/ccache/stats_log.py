"""How warm a compile was: ccache's stats log, read. Pure."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

__all__ = ["Hits", "read_stats_log"]


@dataclass(frozen=True, slots=True)
class Hits:
    """Compiler calls by ccache's outcome. `other` are calls that cannot be cached (linking, configure checks)."""

    direct: int
    preprocessed: int
    misses: int
    other: int

    @property
    def cacheable(self) -> int:
        """The calls that could have been hits."""
        return self.direct + self.preprocessed + self.misses

    @property
    def rate(self) -> float:
        """Hits as a fraction of the cacheable calls; 0.0 when there were none."""
        return (self.direct + self.preprocessed) / self.cacheable if self.cacheable else 0.0

    def __str__(self) -> str:
        if not self.cacheable:
            return "no compiler was called through ccache"
        hits = self.direct + self.preprocessed
        return f"{hits} of {hits + self.misses} compiler calls were hits ({100 * self.rate:.1f} %)"


def read_stats_log(text: str) -> Hits:
    """Count a file written through CCACHE_STATSLOG: for each call `# source`, then one counter a line (ccache manual)."""
    calls: Counter[str] = Counter()
    counters: set[str] = set()

    def close() -> None:
        if not counters:
            return
        if "direct_cache_hit" in counters:
            calls["direct"] += 1
        elif "preprocessed_cache_hit" in counters:
            calls["preprocessed"] += 1
        elif "cache_miss" in counters:
            calls["misses"] += 1
        else:
            calls["other"] += 1
        counters.clear()

    for line in text.splitlines():
        if line.startswith("#"):
            close()
        elif line.strip():
            counters.add(line.strip())
    close()
    return Hits(calls["direct"], calls["preprocessed"], calls["misses"], calls["other"])
