"""What a soak did and found."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from tests.soak.audit import Violation


@dataclass
class Outcome:
    """What a soak did and found; `rss` is the largest process's peak, in KiB."""

    seed: int
    operations: Counter[str] = field(default_factory=Counter)
    outcomes: Counter[str] = field(default_factory=Counter)
    faults: Counter[str] = field(default_factory=Counter)
    kills: int = 0
    suspends: int = 0
    asked: int = 0
    losses: int = 0
    forged: int = 0
    rss: int = 0
    deletions: Counter[str] = field(default_factory=Counter)
    requests: int = 0
    heads: int = 0
    violations: list[Violation] = field(default_factory=list)
    trace: list[str] = field(default_factory=list)

    def add(self, other: Outcome) -> None:
        """Add what another one did to the totals."""
        self.operations += other.operations
        self.outcomes += other.outcomes
        self.faults += other.faults
        self.deletions += other.deletions
        self.kills += other.kills
        self.suspends += other.suspends
        self.asked += other.asked
        self.losses += other.losses
        self.forged += other.forged
        self.rss = max(self.rss, other.rss)
        self.requests += other.requests
        self.heads += other.heads
        self.violations += other.violations

    def text(self) -> str:
        """Say what was done, in a few lines."""
        return "\n".join(
            (
                f"{self.operations.total()} operations: {_counted(self.operations)}",
                f"outcomes: {_counted(self.outcomes)}",
                f"{self.requests} requests, {self.heads} heads, {self.kills} kills, {self.suspends} sleeps",
                f"{self.asked} were asked to stop; {self.losses} packs were taken away, {self.forged} wheels forged",
                f"the largest process held {self.rss // 1024} MiB",
                f"{self.deletions.total()} objects deleted: {_counted(self.deletions)}",
                f"{self.faults.total()} faults: {_counted(self.faults)}",
            )
        )


def _counted(counts: Counter[str]) -> str:
    return ", ".join(f"{count} {name}" for name, count in counts.most_common())
