"""verify:<tier>: run the checks of a tier and of its ancestors in its image, and only then move the friendly tag."""

from __future__ import annotations

import json
from dataclasses import dataclass

from imagetiers.building.deadline import Deadline
from imagetiers.config.layout import VERIFY_SCRIPT
from imagetiers.errors import Problem, StoreError, VerifyError
from imagetiers.operations.checks import problems, run_checks, unfinished
from imagetiers.operations.pull import fetch
from imagetiers.operations.size import budget_problems
from imagetiers.planning.device_code import DeviceLibrary, promise
from imagetiers.planning.observed import ImageInfo
from imagetiers.planning.plan import TierPlan
from imagetiers.report.device_code import device_lines
from imagetiers.session import Session
from imagetiers.state.observe import keep_verdict, observe
from imagetiers.state.registry import passed_before, verdict_name

__all__ = ["verify_image"]

_RESERVE = 20.0  # seconds, for the container to end
_HINT = "if it has to take so long: --timeout, or `verify: {timeout: ...}` of the tier in pipeline.yaml"


def verify_image(session: Session, tier: TierPlan, *, force: bool = False, limit: float | None = None) -> None:
    """Check the tier's image, unless this image has passed these checks before; then let its friendly tags point to it.

    `limit` seconds, or those that pipeline.yaml gives the tier, are for all of it. Raises VerifyError with everything that
    failed, EngineError, Interrupted.
    """
    task = f"verify:{tier.name}"
    seconds = tier.config.verify.timeout if limit is None else limit
    deadline = Deadline(seconds, reserve=_RESERVE, kind=VerifyError, hint=_HINT)
    session = session.with_store(deadline.limited(session.services.store))
    session = session.with_engine(deadline.limited_engine(session.services.engine, task))
    seen = deadline.within(task, lambda: observe(session))
    image = seen.image(tier)
    if image is None and (published := seen.published(tier)) is not None:
        image = deadline.within(task, lambda: fetch(session, tier, published.digest))
    if image is None:
        raise VerifyError(Problem(f"verify:{tier.name}", "there is no image of this key", f"doit image:{tier.name}"))
    if force or not passed_before(session, tier, image.id):
        _keep(session, tier, image, _check(session, tier, image, deadline))
    session.services.engine.tag(tier.ref, tier.tags)
    try:
        keep_verdict(session.layout, image.id, tier.verify.check)
    except OSError as error:
        where = f"{error.filename}: {error.strerror}"
        session.services.console.line(f"verify:{tier.name}: its verdict is not kept here, so it may run again: {where}")


@dataclass(frozen=True, slots=True)
class _Passed:
    """How many checks an image has passed, and what its libraries hold for GPUs."""

    checks: int
    libraries: tuple[DeviceLibrary, ...]


def _keep(session: Session, tier: TierPlan, image: ImageInfo, passed: _Passed) -> None:
    verdict = {
        "passed": True,
        "checks": passed.checks,
        "device_code": [library.document() for library in passed.libraries],
        "tier": tier.name,
        "key": tier.key,
        "at": round(session.services.now()),
    }
    try:
        session.services.store.write(
            verdict_name(tier, image.id, session.trust), json.dumps(verdict, sort_keys=True).encode()
        )
    except StoreError as error:
        session.services.console.line(f"verify:{tier.name}: its verdict was not kept in the cache: {error}")


def _check(session: Session, tier: TierPlan, image: ImageInfo, deadline: Deadline) -> _Passed:
    """Check the image. Raises VerifyError with all that has failed."""
    task = f"verify:{tier.name}"
    found = list(budget_problems(session, tier, image))
    limits = sum(limit is not None for limit in tier.verify.budget.limits)
    passed = limits + (tier.verify.device is not None)
    libraries: tuple[DeviceLibrary, ...] = ()
    if tier.verify.scripts or tier.verify.device is not None:
        checked = run_checks(tier, session.layout.log(tier.name, "verify", tier.key), session.services, deadline)
        if deadline.reached:
            raise deadline.error(task, unfinished(checked))
        found += problems(tier, checked)
        passed += checked.passed
        libraries = tuple(checked.libraries)
    VerifyError.raise_if(found)
    if tier.verify.device is not None:
        for line in device_lines(promise(tier.verify.device), libraries):
            session.services.console.line(f"{task}: {line}")
    if passed:
        session.services.console.line(f"{task}: {passed} checks passed")
    else:
        session.services.console.line(
            f"{task}: nothing was checked: no {VERIFY_SCRIPT}, here or in an ancestor, and no budget"
        )
    return _Passed(passed, libraries)
