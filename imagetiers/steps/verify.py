"""verify:<tier>: run the checks of a tier and of its ancestors in its image, and only then move the friendly tag."""

from __future__ import annotations

import json
import secrets

from imagetiers.commands import COMPILE_STOP_SECONDS, verify_container
from imagetiers.errors import EngineError, Interrupted, Problem, StoreError, VerifyError
from imagetiers.layout import VERIFY_SCRIPT, Layout
from imagetiers.plan import ImageInfo, Plan, TierPlan
from imagetiers.ports import World
from imagetiers.snapshot import InputFile, archive
from imagetiers.steps.fetch import fetch
from imagetiers.steps.registered import passed_before, verdict_name
from imagetiers.steps.survey import keep_verdict, survey

__all__ = ["verify_image"]

RUNNER = b"""\
status=0
for tier in $IMAGETIERS_VERIFY; do
  echo "-- $tier"
  python3 "/imagetiers/$tier/verify.py" "/imagetiers/$tier/expect.json" || status=1
done
exit $status
"""


def verify_image(plan: Plan, tier: TierPlan, layout: Layout, world: World, *, again: bool = False) -> None:
    """Check the tier's image, unless this image has passed these checks before; then let its friendly tags point to it.

    Raises VerifyError with everything that failed, EngineError, Interrupted.
    """
    seen = survey(plan, layout, world)
    image = seen.image(tier)
    if image is None and (published := seen.published(tier)) is not None:
        image = fetch(tier, published.digest, world)
    if image is None:
        raise VerifyError(Problem(f"verify:{tier.name}", "there is no image of this key", f"doit image:{tier.name}"))
    if again or not passed_before(world, tier, image.id):
        _check(tier, image, world)
        _keep(tier, image, world)
    world.engine.tag(tier.ref, tier.tags)
    keep_verdict(layout, image.id, tier.verify.check)


def _keep(tier: TierPlan, image: ImageInfo, world: World) -> None:
    verdict = {"passed": True, "tier": tier.name, "key": tier.key, "at": round(world.now())}
    try:
        world.store.write(verdict_name(tier, image.id, world.trust), json.dumps(verdict, sort_keys=True).encode())
    except StoreError as error:
        world.console.line(f"verify:{tier.name}: its verdict was not kept in the cache: {error}")


def _check(tier: TierPlan, image: ImageInfo, world: World) -> None:
    problems = []
    budget = tier.verify.budget
    if budget is not None and image.size > budget:
        what = f"the image is {image.size / 1e6:,.0f} MB, {(image.size - budget) / 1e6:,.0f} MB over its budget"
        problems.append(Problem(f"verify:{tier.name}", what, f"docker history {tier.ref} shows what each layer weighs"))
    lines: list[str] = []
    if tier.verify.scripts and _run(tier, world, lines) != 0:
        failed = [line for line in lines if line.startswith(("FAIL", "-- ", "Traceback"))] or lines[-12:]
        excerpt = "\n".join(f"    {line}" for line in failed)
        hint = f"the checks are images/*/{VERIFY_SCRIPT}; docker run --rm -it --entrypoint sh {tier.ref} looks inside"
        problems.append(Problem(f"verify:{tier.name}", f"the image is not what it should be:\n{excerpt}", hint))
    VerifyError.raise_if(problems)
    checks = sum(line.startswith("ok") for line in lines)
    world.console.line(f"verify:{tier.name}: {checks} checks passed")


def _run(tier: TierPlan, world: World, lines: list[str]) -> int:
    files = [InputFile("imagetiers/verify.sh", RUNNER)]
    for name, script, expectations in tier.verify.scripts:
        files.append(InputFile(f"imagetiers/{name}/verify.py", script))
        files.append(InputFile(f"imagetiers/{name}/expect.json", expectations.encode()))
    container = world.engine.start(verify_container(tier, secrets.token_hex(4)), archive(files))
    try:
        with world.cancel.on_request(lambda: world.engine.stop(container, COMPILE_STOP_SECONDS)):
            code = world.engine.follow(container, lines.append)
    finally:
        try:
            world.engine.remove(container)
        except EngineError as error:
            world.console.line(f"verify:{tier.name}: {error}")
    if world.cancel.requested:
        raise Interrupted(Problem(f"verify:{tier.name}", "was interrupted"))
    return code
