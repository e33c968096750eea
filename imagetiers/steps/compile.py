"""compile:<tier>: make the wheels of a compile key, warm, and go on where an interrupted or killed doit stopped."""

from __future__ import annotations

import hashlib
import shutil
from functools import partial
from pathlib import Path

from imagetiers.commands import COMPILE_STOP_SECONDS, Label, build_builder, compile_container, max_jobs
from imagetiers.errors import BuildError, Interrupted, Problem, StoreError
from imagetiers.hits import Hits, read_stats_log
from imagetiers.keys import short
from imagetiers.layout import Layout
from imagetiers.plan import CompilePlan, Plan, TierPlan
from imagetiers.ports import World
from imagetiers.snapshot import context_tar
from imagetiers.steps import wheels
from imagetiers.steps.buildlog import BuildLog
from imagetiers.steps.records import Record, keep

__all__ = ["compile_wheels"]

STATS_LOG = ".ccache-stats.log"


def compile_wheels(plan: Plan, tier: TierPlan, layout: Layout, world: World, *, again: bool = False) -> None:
    """Make sure that the wheels of the tier's compile key are here: kept, fetched from the cache, or compiled.

    With `again` they are compiled (through ccache) although they are there. Raises BuildError, EngineError or
    Interrupted. However it ends, the ccache directory keeps what was compiled.
    """
    step = tier.compile
    assert step is not None  # noqa: S101  only such tiers have the task
    with world.locks.hold(f"compile-{step.key}", f"compile:{tier.name}"):
        if wheels.have(layout, step.key) and not again:
            return
        if not again and wheels.restore(world, layout, step.key):
            world.console.line(f"compile:{tier.name}: wheels {short(step.key)} taken from {world.store.url}")
            return
        _compile(plan, tier, step, layout, world)
    try:
        wheels.publish(world, layout, step.key)
    except StoreError as error:
        world.console.line(f"compile:{tier.name}: the wheels were not put into the cache: {error}")


def _compile(plan: Plan, tier: TierPlan, step: CompilePlan, layout: Layout, world: World) -> None:
    began = world.now()
    container, jobs = _running(step, layout, world), 0
    if container is not None:
        world.console.line(f"compile:{tier.name}: goes on with the compile that is still running from an earlier doit")
    else:
        _builder(plan, tier, step, layout, world)
        container, jobs = _start(step, layout, world)
    with world.cancel.on_request(partial(world.engine.stop, container, COMPILE_STOP_SECONDS)):
        code, log = _follow(tier, step, container, layout, world)
        hits = _hits(layout.partial_wheels(step.key) / STATS_LOG)
        if code == 0:
            wheels.commit(layout, step.key)
        # Not before the commit: killed between the two, the next doit finds the container and takes its wheels.
        world.engine.remove(container)
    if code != 0 and world.cancel.requested:
        raise Interrupted(
            Problem(f"compile:{tier.name}", "was interrupted", "run doit again: ccache has kept what was done")
        )
    if code != 0:
        raise BuildError(log.failure(f"compile:{tier.name}", f"the compile step ended with exit code {code}"))
    seconds = world.now() - began
    world.console.line(f"compile:{tier.name}: done in {seconds:.0f} s; {hits}")
    keep(
        world,
        step.manifest,
        Record("compile", tier.name, step.key, began, seconds, jobs, hits.direct + hits.preprocessed, hits.misses),
    )


def _builder(plan: Plan, tier: TierPlan, step: CompilePlan, layout: Layout, world: World) -> None:
    if world.engine.has_image(step.builder):
        return
    build = build_builder(step, tier, plan.pipeline.platform)
    title = f"compile:{tier.name}: builder image"
    with world.console.progress(title) as bar, BuildLog(layout.log(tier.name, "builder", step.key), bar) as log:
        try:
            world.engine.build(build, context_tar(step.files, step.dockerfile), log.take)
        except BuildError as error:
            raise BuildError(log.failure(title, error.problems[0].what)) from error


def _checkout(layout: Layout) -> str:
    """Return a short name for this checkout: two of them may compile the same key at once, each for itself."""
    return hashlib.sha256(str(layout.work.resolve()).encode()).hexdigest()[:8]


def _running(step: CompilePlan, layout: Layout, world: World) -> str | None:
    """Return the container that a killed doit of this checkout has left compiling; remove any that ended badly.

    We hold the compile's lock, so no living doit owns such a container.
    """
    name = f"imagetiers-compile-{step.key[:12]}-{_checkout(layout)}"
    for container in world.engine.find_containers(Label.COMPILE_KEY, step.key):
        if container.name != name:
            continue
        usable = container.running or container.exit_code == 0
        if usable and layout.partial_wheels(step.key).is_dir():
            return container.id
        world.engine.remove(container.id)
    return None


def _start(step: CompilePlan, layout: Layout, world: World) -> tuple[str, int]:
    info = world.engine.info()
    jobs = max_jobs(info.cpus, info.memory, step.step.job_memory)
    folder_of_wheels = layout.partial_wheels(step.key)
    shutil.rmtree(folder_of_wheels, ignore_errors=True)
    ccache = layout.ccache(step.namespace)
    for folder in (folder_of_wheels, ccache):
        folder.mkdir(parents=True, exist_ok=True)
    container = compile_container(
        step,
        user=world.user,
        jobs=jobs,
        ccache=ccache.resolve(),
        wheels=folder_of_wheels.resolve(),
        checkout=_checkout(layout),
    )
    return world.engine.start(container), jobs


def _follow(tier: TierPlan, step: CompilePlan, container: str, layout: Layout, world: World) -> tuple[int, BuildLog]:
    """Wait for the container to end; whatever else happens here, it does not outlive us."""
    path = layout.log(tier.name, "compile", step.key)
    try:
        with (
            world.console.progress(f"compile:{tier.name}") as bar,
            BuildLog(path, bar) as log,
        ):
            return world.engine.follow(container, log.take), log
    except BaseException:
        world.engine.stop(container, COMPILE_STOP_SECONDS)
        world.engine.remove(container)
        raise


def _hits(stats_log: Path) -> Hits:
    try:
        return read_stats_log(stats_log.read_text(errors="replace"))
    except FileNotFoundError:  # nothing was compiled
        return Hits(0, 0, 0, 0)
