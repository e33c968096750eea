"""Whether a compile was as warm as it should have been, and why not."""

from __future__ import annotations

from imagetiers.building.ccache_session import CcacheSession, why_cold
from imagetiers.building.jobs import Measured
from imagetiers.ccache.format.fingerprint import Fingerprint
from imagetiers.config.model import CcacheSettings
from imagetiers.errors import BuildError, Problem
from imagetiers.services import Services

__all__ = ["judge"]


def judge(
    warm: CcacheSession, settings: CcacheSettings, done: Measured, before: Fingerprint | None, services: Services
) -> None:
    """Say why a compile was cold, if it need not have been. Raises BuildError where `strict` is set."""
    if not done.hits.cacheable:
        what = "no compiler was called through ccache, so the next compile will be as cold as this one"
        if settings.strict:
            hint = "let the compilers be called through ccache, as CC='ccache cc' or by its links on the PATH"
            raise BuildError(Problem(warm.task, f"{what} (strict: true)", f"{hint}; strict: false only reports"))
        services.console.line(f"{warm.task}: {what}")
        return
    if before is None or done.rate >= settings.min_hit_rate:
        return
    what = f"cold, below the {100 * settings.min_hit_rate:.0f} % of min_hit_rate: {why_cold(warm, done, before)}"
    if settings.strict:
        hint = "what it compiled is in the cache now, so the next run is warm; strict: false only reports"
        raise BuildError(Problem(warm.task, what, hint))
    services.console.line(f"{warm.task}: {what}")
