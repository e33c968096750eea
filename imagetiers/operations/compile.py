"""compile:<tier>: make the wheels, or other outputs, of a compile key, warm, and resume what a killed doit began."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path

from imagetiers.building.build_folder import program_files
from imagetiers.building.buildlog import BuildLog
from imagetiers.building.ccache_session import (
    checkpoints,
    last_fingerprint,
    toolchain_change,
    warm_up,
    warmth,
)
from imagetiers.building.compile_watch import CompileWatch
from imagetiers.building.deadline import Deadline
from imagetiers.building.image_build import run_build
from imagetiers.building.jobs import Measured, last_compile, launcher_files, measured
from imagetiers.building.preconditions import check_may_build, images_made_from
from imagetiers.building.secrets import given_secrets, read_secrets
from imagetiers.building.stopwatch import Stopwatch
from imagetiers.building.toolchain import not_started, probe
from imagetiers.building.warm_enough import judge
from imagetiers.ccache.checkpoint import Checkpointer
from imagetiers.config.model import ONLY_WHEELS
from imagetiers.errors import BuildError, EngineError, Interrupted, LockedError, Problem, RegistryError, StoreError
from imagetiers.operations.signed_parents import parent_signature_problems
from imagetiers.planning.commands import (
    COMPILE_STOP_SECONDS,
    build_builder,
    compile_container,
    max_jobs,
    room_of,
    secrets_stream,
)
from imagetiers.planning.keys import short
from imagetiers.planning.labels import Label
from imagetiers.planning.objects import KnownObjects, learn
from imagetiers.planning.plan import CompilePlan, TierPlan
from imagetiers.session import Session
from imagetiers.state import wheels
from imagetiers.state.compile_folder import CompileFolder
from imagetiers.state.history import expect_compile
from imagetiers.state.objects import keep_objects, known_objects
from imagetiers.state.observe import observe
from imagetiers.state.records import Record, keep, keep_inputs
from imagetiers.state.wheels_whole import what_is_wrong

__all__ = ["compile_wheels"]

_KILLED = 137
_OUT_OF_MEMORY = "Killed signal"  # what GCC's driver says of a compiler that the kernel has killed


def compile_wheels(
    session: Session, tier: TierPlan, deadline: Deadline, *, force: bool = False, no_cache: bool = False
) -> None:
    """Make sure that the wheels of the tier's compile key are here: kept, fetched from the cache, or compiled.

    With `force` they are compiled (through ccache) although they are there; with `no_cache` too, in a builder image that is
    built anew, without BuildKit's layer cache. The `deadline` is for all of it, from the first request to the last, and for
    waiting for others; the compile is ended before, as by Ctrl-C. Raises BuildError, EngineError or Interrupted. However it
    ends, the ccache directory keeps what was compiled.
    """
    session = session.with_store(deadline.limited(session.services.store))
    session = session.with_engine(deadline.limited_engine(session.services.engine, f"compile:{tier.name}"))
    step = tier.compile
    assert step is not None  # noqa: S101  only such tiers have the task
    try:
        done = _with_the_lock(session, tier, step, deadline=deadline, force=force or no_cache, no_cache=no_cache)
    except LockedError as error:
        deadline.reached = True
        raise deadline.error(f"compile:{tier.name}", f": it {error.problems[0].what}") from None
    if not done:
        return
    try:
        wheels.publish(session, step.key)
    except StoreError as error:
        told = f"compile:{tier.name}: the {step.config.made} were not put into the cache: {error}"
        session.services.console.line(told)


def _with_the_lock(
    session: Session, tier: TierPlan, step: CompilePlan, *, deadline: Deadline, force: bool, no_cache: bool
) -> bool:
    """Do so while no other doit of this checkout does; say whether anything was compiled."""
    task = f"compile:{tier.name}"
    with session.services.locks.hold(f"compile-{step.key}", task, deadline.for_work):
        wrong = what_is_wrong(session.layout, step.key)
        if wrong is None and not force:
            return False
        if wrong:
            session.services.console.line(
                f"{task}: {session.layout.wheels(step.key)}: {wrong}: the {step.config.made} count as absent"
            )
        if not force and wheels.restore(session, step.key, step.config.outputs):
            told = f"{task}: {step.config.made} {short(step.key)} taken from {session.services.store.url}"
            session.services.console.line(told)
            return False
        if session.plan.pipeline.registry is not None:
            seen = deadline.within(task, lambda: observe(session))
            check_may_build(session.plan, tier, seen, task, force=force)
        deadline.within(task, lambda: RegistryError.raise_if(parent_signature_problems(session, tier)))
        secrets = read_secrets(tier.config, session.layout, session.trust)
        with CompileFolder(session, step) as folder:
            _compile(folder, session, tier, step, deadline=deadline, secrets=secrets, no_cache=no_cache)
    return True


def _compile(
    folder: CompileFolder,
    session: Session,
    tier: TierPlan,
    step: CompilePlan,
    *,
    deadline: Deadline,
    secrets: Mapping[str, bytes],
    no_cache: bool,
) -> None:
    watch = Stopwatch(session.services.now)
    task = f"compile:{tier.name}"
    _builder(session, tier, step, deadline=deadline, secrets=secrets, no_cache=no_cache)
    watch.lap("builder image")
    toolchain = probe(task, step, session.services, deadline, takes_secrets=bool(secrets))
    warm = warmth(tier.name, step, toolchain, session.layout, session.trust)
    partial_wheels = session.layout.partial_wheels(step.key)
    container = deadline.within(task, lambda: _running(session, step))
    settings = step.config.ccache
    known = known_objects(session, step) if settings is not None else KnownObjects()
    expected = expect_compile(session, tier, warm) if container is None else None
    if container is not None:
        session.services.console.line(f"{task}: resumes the compile that is still running from an earlier doit")
    else:
        watch.lap("probe")
        if settings is not None:
            warm_up(warm, session.services)
            watch.lap("pull")
        deadline.check(task)
        container = _start(session, step, warm.directory, folder.place(), known, secrets)
    since = (partial_wheels / wheels.BEGAN).stat().st_mtime_ns
    stop = partial(session.services.engine.stop, container, COMPILE_STOP_SECONDS)
    with session.services.cancel.on_request(stop), deadline.stops(stop):
        before = last_fingerprint(warm, session.services) if warm.cached else None
        with checkpoints(warm, settings, since, session.services, lambda: folder.has_saved) as keeper:
            code, log = _follow(session, tier, step, container, known, deadline=deadline, secrets=secrets)
            watch.lap("compile container")
            done = measured(partial_wheels, known, warm.directory)
            try:
                # Before the last push: a compile that is done does not wait for the cache.
                if code == 0:
                    folder.look()
                    if settings is not None and not folder.used:
                        judge(warm, settings, done, before, session.services)
                    _commit(session, step, task)
            finally:
                watch.lap("commit")
                # Not before the commit: killed between the two, the next doit finds the container and takes its wheels.
                _publish(session, task, container, folder, keeper, good=code == 0)
                if settings is not None:
                    changed = toolchain_change(warm, before)
                    last = last_compile(step.key, watch.began, done, known, changed)
                    keep_objects(
                        session, step, known, lambda found: learn(found, done.jobs, done.calls, watch.began, last)
                    )
        watch.lap("push")
    _raise_if_bad(session, step, code, log, done, deadline)
    record = _record(session, tier, step, watch=watch, done=done, log=log, keeper=keeper)
    # The seconds of a compile that was adopted are not all of it: such a record is like no build.
    keep(session, step.key_document, expected.attach_to(record) if expected is not None else record)
    keep_inputs(session, step.key, step.inputs)


def _raise_if_bad(  # noqa: PLR0917  one value each
    session: Session, step: CompilePlan, code: int, log: BuildLog, done: Measured, deadline: Deadline
) -> None:
    task = f"compile:{step.tier}"
    if code != 0 and session.services.cancel.requested:
        cure = "run doit again: ccache has kept what was done" if step.config.ccache else "run doit again"
        raise Interrupted(Problem(task, "was interrupted", cure))
    if code != 0 and deadline.reached:
        raise deadline.error(task)
    if code != 0:
        raise BuildError(*_failure(log, step, code, done))


def _record(
    session: Session,
    tier: TierPlan,
    step: CompilePlan,
    *,
    watch: Stopwatch,
    done: Measured,
    log: BuildLog,
    keeper: Checkpointer | None,
) -> Record:
    """Say how a compile went that is done, and return that as a record."""
    pushed = keeper.close(good=True) if keeper is not None else None  # it is closed: this says what its pushes came to
    task = f"compile:{tier.name}"
    cached = f"; {done}" if step.config.ccache is not None else ""
    session.services.console.line(f"{task}: done in {watch.seconds:.0f} s{cached}")
    for line in (*done.fed, *done.rates.by_class()):
        session.services.console.line(f"{task}: {line}")
    total = done.rates.total
    return Record(
        "compile",
        tier.name,
        step.key,
        watch.began,
        watch.seconds,
        hits=done.hits.direct + done.hits.preprocessed,
        misses=done.hits.misses,
        saved_seconds=total.saved if total.rate is not None else 0.0,
        compiled_seconds=total.compiled,
        classes=done.rates.classes,
        phases=watch.phases,
        parts=log.parts,
        worker=session.services.worker(),
        pushed=pushed.stored_bytes if pushed is not None else 0,
        cached=pushed.final.held if pushed is not None and pushed.final is not None else 0,
    )


def _failure(log: BuildLog, step: CompilePlan, code: int, done: Measured) -> tuple[Problem, ...]:
    """Return what a compile that ended badly has to say; compilers that the kernel has killed have a remedy."""
    task = f"compile:{step.tier}"
    killed = code == _KILLED
    problem = log.failure(
        task, f"the compile step ended with exit code {code}{' (killed; out of memory?)' if killed else ''}"
    )
    if (missing := not_started(task, step, code, problem.what)) is not None:
        return (missing,)
    if done.starved:
        hint = "the next doit gives them twice that; a larger compile.memory, or a larger machine, is more for all"
        return problem, *(Problem(task, f"the memory was not enough for {one}", hint) for one in done.starved)
    if not killed and _OUT_OF_MEMORY not in problem.what:
        return (problem,)
    cached = step.config.ccache is not None
    hint = "a larger compile.job_memory runs fewer jobs at once" + ("; what is done is kept in ccache" * cached)
    return problem, Problem(task, "the memory was probably not enough for so many jobs", hint)


def _commit(session: Session, step: CompilePlan, task: str) -> None:
    others = wheels.commit(session.layout, step.key, task, step.config.outputs)
    if step.config.outputs == ONLY_WHEELS:
        for name in others:
            session.services.console.line(f"{task}: left {name} in /wheels; only wheels are kept, so it was removed")
    elif others:
        told = f"{task}: left what no pattern of compile.outputs means, so it was removed: {', '.join(others)}"
        session.services.console.line(told)


def _builder(
    session: Session,
    tier: TierPlan,
    step: CompilePlan,
    *,
    deadline: Deadline,
    secrets: Mapping[str, bytes],
    no_cache: bool,
) -> None:
    task = f"compile:{tier.name}"
    title = f"{task}: builder image"
    if not no_cache and deadline.within(task, lambda: session.services.engine.has_image(step.builder)):
        return
    images: dict[str, str] = {}
    if step.made_from:
        seen = deadline.within(task, lambda: observe(session))
        images = images_made_from(session.plan, tier, step.made_from, seen, task)
    make = partial(
        build_builder,
        step,
        tier,
        session.plan.pipeline.platform,
        images=images,
        secrets=given_secrets(tier.config, session.layout, session.trust),
        no_cache=no_cache,
    )
    path = session.layout.log(tier.name, "builder", step.key)
    run_build(session, step, title, path, secrets.values(), lambda folders: make(folders=folders), deadline)


def _publish(
    session: Session, task: str, container: str, folder: CompileFolder, keeper: Checkpointer | None, *, good: bool
) -> None:
    """Push what a compile has left. Its container, gigabytes of files, is removed beside that and the next tasks."""
    session.background.begin(partial(_remove, session, task, container))
    with folder.publishing(good=good):
        if keeper is not None:
            keeper.close(good=good)


def _remove(session: Session, task: str, container: str) -> None:
    try:
        session.services.engine.remove(container)
    except EngineError as error:
        session.services.console.line(f"{task}: {error}")


def _running(session: Session, step: CompilePlan) -> str | None:
    """Return the container that a killed doit of this checkout has left compiling; remove any that ended badly.

    We hold the compile's lock, so no living doit owns such a container.
    """
    name = f"imagetiers-compile-{step.key[:12]}-{session.layout.checkout}"
    for container in session.services.engine.find_containers(Label.COMPILE_KEY, step.key):
        if container.name != name:
            continue
        usable = container.running or container.exit_code == 0
        if usable and (session.layout.partial_wheels(step.key) / wheels.BEGAN).exists():
            return container.id
        session.services.engine.remove(container.id)
    return None


def _start(  # noqa: PLR0917  one folder each
    session: Session,
    step: CompilePlan,
    ccache: Path,
    build_folder: Path | None,
    known: KnownObjects,
    secrets: Mapping[str, bytes],
) -> str:
    info = session.services.engine.info()
    folder, made = wheels.begin(session.layout, step.key, step.config.outputs)
    memory = min(info.memory, step.config.memory or info.memory)
    container = compile_container(
        step,
        user=session.services.user,
        jobs=max_jobs(info.cpus, memory, step.config.job_memory, known.mean_memory()),
        room=room_of(memory),
        ccache=ccache.resolve(),
        wheels=folder.resolve(),
        checkout=session.layout.checkout,
        outputs=made.resolve() if made != folder else None,
        secrets=len(secrets),
        folder=build_folder.resolve() if build_folder is not None else None,
    )
    stdin = secrets_stream(secrets) if secrets else None
    files = None
    if step.config.ccache is not None:
        files = launcher_files(known, program_files() if build_folder is not None else ())
    return session.services.engine.start(container, files, stdin)


def _follow(
    session: Session,
    tier: TierPlan,
    step: CompilePlan,
    container: str,
    known: KnownObjects,
    *,
    deadline: Deadline,
    secrets: Mapping[str, bytes],
) -> tuple[int, BuildLog]:
    """Wait for the container to end. It outlives us only when the engine is lost: then the next doit resumes it."""
    task = f"compile:{tier.name}"
    path = session.layout.log(tier.name, "compile", step.key)
    folder = session.layout.partial_wheels(step.key)
    try:
        with (
            CompileWatch(session.services, task, container, folder, known) as looking,
            session.services.console.progress(task, path) as bar,
            BuildLog(path, bar, session.services.now, secrets.values(), looking.count) as log,
        ):
            return deadline.to_the_end(lambda: session.services.engine.follow(container, log.take)), log
    except TimeoutError:
        told = ", but the engine does not say that its container has ended"
        raise deadline.error(task, told) from None
    except EngineError as error:
        hint = "run doit again when the daemon is there: it resumes the compile"
        lost = Problem(task, "the compile may still run in its container", hint)
        raise EngineError(*error.problems, lost) from error
    except BaseException:
        session.services.engine.stop(container, COMPILE_STOP_SECONDS)
        session.services.engine.remove(container)
        raise
