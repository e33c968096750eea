"""A compile's ccache directory, warm: pulled before, checkpointed while it runs, pushed after, however it ends."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from imagetiers.building.jobs import Measured
from imagetiers.building.toolchain import Toolchain
from imagetiers.ccache.checkpoint import Checkpointer
from imagetiers.ccache.format.fingerprint import Fingerprint
from imagetiers.ccache.namespace import Namespace, namespace_name
from imagetiers.ccache.pull import pull
from imagetiers.ccache.push import PushResult, push
from imagetiers.config.layout import Layout
from imagetiers.config.model import CcacheSettings, Trust
from imagetiers.errors import StoreError
from imagetiers.planning.plan import CompilePlan
from imagetiers.services import Bar, Services

__all__ = ["CcacheSession", "namespace_chain", "warmth"]

MAIN = "main"


@dataclass(frozen=True, slots=True)
class CcacheSession:
    """Where a compile's ccache lies here and in the store. `chain` is read in this order; the first one is written."""

    task: str
    step: str
    directory: Path
    chain: tuple[str, ...]
    toolchain: Toolchain

    @property
    def cached(self) -> bool:
        """Whether there is a ccache at all."""
        return bool(self.toolchain.ccache)


class BarProgress:
    """Shows a transfer's bytes on a progress display."""

    def __init__(self, bar: Bar) -> None:
        self._bar = bar
        self._total = self._done = 0

    def start(self, total: int) -> None:
        """Say how many bytes there are in all."""
        self._total = total
        self._bar.update(self._done, self._total)

    def advance(self, amount: int) -> None:
        """Say that `amount` more bytes are done."""
        self._done += amount
        self._bar.update(self._done, self._total)


def namespace_chain(line: str, trust: Trust, ccache: str) -> tuple[str, ...]:
    """Return the namespaces that a build reads, its own first: branch -> main, and untrusted -> trusted."""
    own = namespace_name(f"{trust.level}.{trust.branch}", line, ccache)
    main = namespace_name(f"trusted.{MAIN}", line, ccache)
    return (own,) if own == main else (own, main)


def warmth(tier: str, step: CompilePlan, toolchain: Toolchain, layout: Layout, trust: Trust) -> CcacheSession:
    """Return where the ccache of a compile step lies."""
    chain = namespace_chain(step.namespace, trust, toolchain.ccache or "none")
    return CcacheSession(f"compile:{tier}", tier, layout.ccache(chain[0]), chain, toolchain)


def warm_up(warm: CcacheSession, services: Services) -> bool:
    """Pull the working set of the step; say whether there was any. A store that fails costs a line, not the compile."""
    warm.directory.mkdir(parents=True, exist_ok=True)
    if not warm.cached:
        return False
    try:
        with services.console.progress(f"{warm.task}: ccache pull") as bar:
            arches = warm.toolchain.fingerprint.arches
            shown = BarProgress(bar)
            result = pull(services.store, warm.chain, warm.directory, step=warm.step, arches=arches, progress=shown)
    except StoreError as error:
        services.console.line(f"{warm.task}: compiles with what is here, for the cache cannot be read: {error}")
        return False
    if result.entries or result.quarantined:
        services.console.line(f"{warm.task}: ccache: {result}")
    for line in result.quarantined:
        services.console.line(f"{warm.task}: quarantined: {line}")
    return bool(result.entries or result.present)


@contextmanager
def checkpoints(
    warm: CcacheSession, settings: CcacheSettings | None, since: int, services: Services, with_last: Callable[[], bool]
) -> Iterator[Checkpointer | None]:
    """Push while the block runs and once more after it; `since` (Unix ns) is when the compile began.

    `with_last` is asked at each push: has this compile what the last one used, without asking ccache for it?
    """
    if not warm.cached or settings is None:
        yield None
        return

    def pusher(*, good: bool, checkpoint: bool) -> PushResult:
        return push(
            services.store,
            warm.chain[0],
            warm.directory,
            step=warm.step,
            since=since,
            good=good,
            checkpoint=checkpoint,
            fingerprint=warm.toolchain.fingerprint,
            parents=warm.chain[1:],
            with_last=with_last(),
        )

    keeper = Checkpointer(
        pusher,
        interval=settings.checkpoint_minutes * 60,
        report=lambda line: services.console.line(f"{warm.task}: ccache {line}"),
    )
    with keeper:
        yield keeper


def why_cold(warm: CcacheSession, done: Measured, before: Fingerprint | None) -> str:
    """Say why a compile that should have been warm was not, by what differs from the last good one's toolchain."""
    if before is None:
        return f"{done}; no earlier good compile is known, so there is nothing to compare with"
    differences = warm.toolchain.fingerprint.differences(before)
    reasons = (
        "; ".join(differences)
        or "compilers, flags and settings are the same: the sources differ, or the cache was pruned"
    )
    return f"{done}: {reasons}"


def toolchain_change(warm: CcacheSession, before: Fingerprint | None) -> str:
    """Say what compilers, ccache and its settings are now that they were not before; nothing where nothing is."""
    if before is None:
        return ""
    now, then = (replace(one, flags=(), arches=(), source="", paths={}) for one in (warm.toolchain.fingerprint, before))
    return "; ".join(now.differences(then))


def last_fingerprint(warm: CcacheSession, services: Services) -> Fingerprint | None:
    """Return the toolchain of the step's last good compile, along the chain."""
    for namespace in warm.chain:
        try:
            use = Namespace(services.store, namespace).load().view.head.state.uses.get((warm.step, "good"))
        except StoreError as error:
            services.console.line(f"{warm.task}: {error}")
            return None
        if use is not None and use.fingerprint is not None:
            return use.fingerprint
    return None
