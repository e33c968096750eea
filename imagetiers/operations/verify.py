"""verify:<tier>: run the checks of a tier and of its ancestors in its image, and only then move the friendly tag."""

from __future__ import annotations

import json
from dataclasses import replace

from imagetiers.building.deadline import Deadline
from imagetiers.config.layout import VERIFY_SCRIPT, Layout
from imagetiers.errors import Problem, StoreError, VerifyError
from imagetiers.operations.checks import problems, run_checks, unfinished
from imagetiers.operations.pull import fetch
from imagetiers.planning.observed import ImageInfo
from imagetiers.planning.plan import Plan, TierPlan
from imagetiers.services import Services
from imagetiers.state.observe import keep_verdict, observe
from imagetiers.state.registry import passed_before, verdict_name

__all__ = ["verify_image"]

_RESERVE = 20.0  # seconds, for the container to end
_HINT = "if it has to take so long: --timeout, or `verify: {timeout: ...}` of the tier in pipeline.yaml"


def verify_image(
    plan: Plan,
    tier: TierPlan,
    layout: Layout,
    services: Services,
    *,
    again: bool = False,
    limit: float | None = None,
) -> None:
    """Check the tier's image, unless this image has passed these checks before; then let its friendly tags point to it.

    `limit` seconds, or those that pipeline.yaml gives the tier, are for all of it. Raises VerifyError with everything that
    failed, EngineError, Interrupted.
    """
    task = f"verify:{tier.name}"
    seconds = tier.tier.verify.timeout if limit is None else limit
    deadline = Deadline(seconds, reserve=_RESERVE, kind=VerifyError, hint=_HINT)
    services = replace(services, store=deadline.limited(services.store))
    seen = deadline.within(task, lambda: observe(plan, layout, services))
    image = seen.image(tier)
    if image is None and (published := seen.published(tier)) is not None:
        image = deadline.within(task, lambda: fetch(tier, published.digest, services))
    if image is None:
        raise VerifyError(Problem(f"verify:{tier.name}", "there is no image of this key", f"doit image:{tier.name}"))
    if again or not passed_before(services, tier, image.id):
        _keep(tier, image, services, checks=_check(tier, image, layout, services, deadline))
    services.engine.tag(tier.ref, tier.tags)
    try:
        keep_verdict(layout, image.id, tier.verify.check)
    except OSError as error:
        where = f"{error.filename}: {error.strerror}"
        services.console.line(f"verify:{tier.name}: its verdict is not kept here, so it may run again: {where}")


def _keep(tier: TierPlan, image: ImageInfo, services: Services, *, checks: int) -> None:
    verdict = {"passed": True, "checks": checks, "tier": tier.name, "key": tier.key, "at": round(services.now())}
    try:
        services.store.write(verdict_name(tier, image.id, services.trust), json.dumps(verdict, sort_keys=True).encode())
    except StoreError as error:
        services.console.line(f"verify:{tier.name}: its verdict was not kept in the cache: {error}")


def _check(tier: TierPlan, image: ImageInfo, layout: Layout, services: Services, deadline: Deadline) -> int:
    """Check the image; return how many checks have passed."""
    found = []
    task, budget = f"verify:{tier.name}", tier.verify.budget
    if budget is not None and image.size > budget:
        what = f"the image is {image.size / 1e6:,.0f} MB, {(image.size - budget) / 1e6:,.0f} MB over its budget"
        found.append(Problem(task, what, f"docker history {tier.ref} shows what each layer weighs"))
    passed = 0 if budget is None else 1
    if tier.verify.scripts:
        checked = run_checks(tier, layout.log(tier.name, "verify", tier.key), services, deadline)
        if deadline.reached:
            raise deadline.error(task, unfinished(checked))
        found += problems(tier, checked)
        passed += checked.passed
    VerifyError.raise_if(found)
    if passed:
        services.console.line(f"{task}: {passed} checks passed")
    else:
        services.console.line(f"{task}: nothing was checked: no {VERIFY_SCRIPT}, here or in an ancestor, and no budget")
    return passed
