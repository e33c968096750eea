"""verify:<tier>: hold the image against the checks of its tier and its ancestors, and only then move the friendly tag."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType

from imagetiers.building.deadline import Deadline
from imagetiers.config.layout import VERIFY_SCRIPT
from imagetiers.errors import Problem, StoreError, VerifyError
from imagetiers.judging.outcome import CheckOutcome, FailedCheck, failed_checks
from imagetiers.judging.settings import judge_settings, needs_accounts
from imagetiers.operations.ahead import Coming, run_inside, takes_gpus
from imagetiers.operations.declared import Found, hold_against, read_image, wanted
from imagetiers.operations.outfile import write_out
from imagetiers.operations.pull import fetch
from imagetiers.operations.size import budget_problems
from imagetiers.patience import begin
from imagetiers.planning.device_code import promise
from imagetiers.planning.observed import ImageInfo, ObservedState
from imagetiers.planning.plan import TierPlan
from imagetiers.planning.sizes import layer_sizes, weigh_image
from imagetiers.report.checks import checks_document, junit
from imagetiers.report.device_code import device_lines
from imagetiers.session import Session
from imagetiers.state.failures import keep_failure
from imagetiers.state.observe import keep_verdict, observe
from imagetiers.state.registry import passed_before, verdict_name

__all__ = ["verify_image"]

_TOGETHER = 8  # images that are read with another one: each has its own layers in the same archive
_RESERVE = 20.0  # seconds, for the container to end
_HINT = "if it has to take so long: --timeout, or `verify: {timeout: ...}` of the tier in pipeline.yaml"


@dataclass(frozen=True, slots=True)
class _Subject:
    """The image that is checked: its id, and what the engine says of it, or its digest where only the registry has it."""

    id: str
    here: ImageInfo | None = None
    digest: str = ""


def verify_image(
    session: Session,
    tier: TierPlan,
    *,
    force: bool = False,
    limit: float | None = None,
    gpus: bool = True,
    reports: Mapping[str, str] = MappingProxyType({}),
    along: Sequence[str] = (),
) -> None:
    """Check the tier's image, unless this image has passed these checks before; then let its friendly tags point to it.

    An image that only the registry has is pulled where something must be run in it; otherwise its layers are read there.
    `limit` seconds, or those that pipeline.yaml gives the tier, are for all of it. What is compiled for GPUs runs with those of
    the host, if the engine says that it can give them, unless `gpus` is false. `reports` are files to write, by their form
    (`junit`, `json`; `-` is the standard output), also when checks fail. What has failed is kept in the cache, for people: it
    says nothing to later runs. `along` are tiers whose images this process checks, in their order: they are read together, and
    what runs in them begins beside this.

    Raises VerifyError with everything that failed, EngineError, RegistryError, OutputError, Interrupted.
    """
    task = f"verify:{tier.name}"
    seconds = tier.config.verify.timeout if limit is None else limit
    deadline = Deadline(seconds, reserve=_RESERVE, kind=VerifyError, hint=_HINT)
    unlimited = session
    session = session.with_store(deadline.limited(session.services.store))
    session = session.with_engine(deadline.limited_engine(session.services.engine, task))
    seen = deadline.within(task, lambda: observe(session))
    image = _find(session, tier, seen, deadline)
    verdict = None if force else passed_before(session, tier, *seen.ids(tier))
    if verdict is None:
        try:
            coming = Coming(unlimited, _after(session, tier, seen, along))
            found = _check(session, tier, image, deadline, gpus=gpus, coming=coming)
        except VerifyError as error:
            keep_failure(unlimited, tier, image.id, _unfinished(tier, error))
            raise
        failed = tuple(failed_checks(found.outcomes))
        if failed:
            keep_failure(unlimited, tier, image.id, failed)
        _report(tier, image, found, reports)
        _tell(session, tier, found)
        _keep(session, tier, image, found)
    else:
        found = Found(tuple(CheckOutcome(*each) for each in verdict.checks), verdict.libraries)
        _report(tier, image, found, reports)
    if image.here is not None:
        session.services.engine.tag(tier.ref, tier.tags)
    try:
        keep_verdict(session.layout, image.id, tier.verify.check)
    except OSError as error:
        where = f"{error.filename}: {error.strerror}"
        session.services.console.line(f"verify:{tier.name}: its verdict is not kept here, so it may run again: {where}")


def _find(session: Session, tier: TierPlan, seen: ObservedState, deadline: Deadline) -> _Subject:
    """Return the image, pulled if it must be. Raises VerifyError when there is none."""
    task = f"verify:{tier.name}"
    image, published = seen.image(tier), seen.published(tier)
    if image is None and published is not None:
        if not tier.verify.needs_engine:
            return _Subject(published.image, digest=published.digest)
        image = deadline.within(task, lambda: fetch(session, tier, published.digest))
    if image is None:
        raise VerifyError(Problem(task, "there is no image of this key", f"doit image:{tier.name}"))
    return _Subject(image.id, image)


def _unfinished(tier: TierPlan, error: VerifyError) -> list[FailedCheck]:
    """Say of checks that did not come to an end why that is."""
    return [FailedCheck(tier.name, "unfinished", problem.what) for problem in error.problems]


def _report(tier: TierPlan, image: _Subject, found: Found, reports: Mapping[str, str]) -> None:
    """Write what came out. Raises OutputError."""
    texts = {
        "junit": lambda: junit(tier, found.outcomes),
        "json": lambda: json.dumps(checks_document(tier, image.id, found.outcomes, found.libraries), indent=1) + "\n",
    }
    for form, to in reports.items():
        write_out(Path("/dev/stdout" if to == "-" else to), texts[form](), f"verify:{tier.name}: --{form} {to}")


def _keep(session: Session, tier: TierPlan, image: _Subject, found: Found) -> None:
    verdict = {
        "passed": True,
        "checks": [[outcome.tier, outcome.check] for outcome in found.outcomes],
        "device_code": [library.document() for library in found.libraries],
        "layers": [[layer.size, layer.twice, layer.instruction] for layer in found.layers],
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


def _check(
    session: Session, tier: TierPlan, image: _Subject, deadline: Deadline, *, gpus: bool, coming: Coming
) -> Found:
    """Make all checks of the image, also when some have failed. Raises VerifyError when the time is over, Interrupted."""
    services, task = session.services, f"verify:{tier.name}"
    declared, here = tier.verify.declared, image.here
    if here is None:
        if not tier.verify.reads_files and not any(each.checks.reads_config for each in declared):
            return Found()
        ref = f"{tier.repository}@{image.digest}"
        services.console.line(f"{task}: the registry's layers are read, and nothing is pulled: {image.digest[:19]}")
        read = deadline.within(task, lambda: services.registry.read_image(ref, wanted(tier.verify)))
        return replace(hold_against(tier, read), layers=layer_sizes(read, weigh_image(read.layers)))
    # Beside what runs in the image, which is mostly other processes.
    files = begin(lambda: _of_files(session, tier, here, deadline, coming.tiers))
    gpus = gpus and takes_gpus(tier) and services.engine.info().gpus
    if gpus:
        services.console.line(f"{task}: with this host's GPUs")
    run = run_inside(session, tier, here.id, deadline, gpus=gpus, coming=coming)
    found = files(None)
    return replace(found, outcomes=(*found.outcomes, *run))


def _of_files(
    session: Session, tier: TierPlan, image: ImageInfo, deadline: Deadline, coming: Mapping[str, TierPlan]
) -> Found:
    """Make those checks for which nothing is run: the budget, the configuration, and what lies in the image."""
    services, task, declared = session.services, f"verify:{tier.name}", tier.verify.declared
    config = services.engine.image_config(tier.ref) if any(each.checks.reads_config for each in declared) else None
    judges = tier.verify.reads_files or (config is not None and needs_accounts(declared, config))
    files = None
    if judges or tier.verify.budget.reads_layers:
        files = read_image(tier, image.id, session, deadline, _children(session, tier, coming))
    sizes = weigh_image(files.layers) if files is not None else None
    weighed = (files, sizes) if files is not None and sizes is not None else None
    over = [
        CheckOutcome(tier.name, "budget", each.what if each.where == task else f"{each.where}: {each.what}", each.hint)
        for each in budget_problems(session, tier, image, weighed)
    ]
    outcomes = over or [CheckOutcome(tier.name, f"budget: {name}") for name in tier.verify.budget.asked]
    held = Found()
    if judges and files is not None:
        held = hold_against(tier, files)
    elif config is not None:
        held = Found(tuple(judge_settings(declared, config, None)))
    layers = layer_sizes(*weighed) if weighed is not None else ()
    return Found((*outcomes, *held.outcomes), held.libraries, layers)


def _after(session: Session, tier: TierPlan, seen: ObservedState, names: Sequence[str]) -> dict[str, TierPlan]:
    """Return by their images' ids those tiers that come after this one and whose images are here, in their order."""
    after = names[names.index(tier.name) + 1 :] if tier.name in names else ()
    found = ((seen.image(each), each) for each in map(session.plan.tiers.__getitem__, after))
    return {image.id: each for image, each in found if image is not None}


def _children(session: Session, tier: TierPlan, coming: Mapping[str, TierPlan]) -> dict[str, TierPlan]:
    """Return of those tiers the ones whose images are made from this tier's, and whose checks read them."""
    tiers, found = session.plan.tiers, dict[str, TierPlan]()
    for image, child in coming.items():
        above = child.config.parent
        while above not in {tier.name, None}:
            above = tiers[above].config.parent
        if above is not None and child.verify.reads_files and len(found) < _TOGETHER:
            found[image] = child
    return found


def _tell(session: Session, tier: TierPlan, found: Found) -> None:
    """Say what has passed. Raises VerifyError with all that has failed."""
    task = f"verify:{tier.name}"
    VerifyError.raise_if(Problem(task, each.problem, each.hint) for each in found.outcomes if not each.passed)
    if tier.verify.device is not None:
        for line in device_lines(promise(tier.verify.device), found.libraries):
            session.services.console.line(f"{task}: {line}")
    if found.outcomes:
        session.services.console.line(f"{task}: {len(found.outcomes)} checks passed")
    else:
        session.services.console.line(
            f"{task}: nothing was checked: no `verify:` and no {VERIFY_SCRIPT}, here or in an ancestor, and no budget"
        )
