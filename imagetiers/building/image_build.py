"""One build of BuildKit's, of a tier's image or of the stage that it compiles in: from the very bytes that were hashed."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from pathlib import Path

from imagetiers.building.buildlog import BuildLog
from imagetiers.building.deadline import Deadline
from imagetiers.building.staging import staged
from imagetiers.errors import BuildError
from imagetiers.inputs.context import context_tar
from imagetiers.planning.containers import BuildImage
from imagetiers.planning.plan import CompilePlan, TierPlan
from imagetiers.session import Session

__all__ = ["run_build"]

_USUAL = "gzip"


def run_build(  # noqa: PLR0917  one value each
    session: Session,
    planned: TierPlan | CompilePlan,
    title: str,
    path: Path,
    secrets: Iterable[bytes],
    make: Callable[[Mapping[str, Path]], BuildImage],
    deadline: Deadline | None = None,
) -> None:
    """Run the build that `make` returns, given where the folders lie that it takes from; its log is written to `path`.

    The caller holds the lock of the key. Raises BuildError, with the first error of the log, and EngineError.
    """
    with (
        session.services.console.progress(title, path) as bar,
        BuildLog(path, bar, session.services.now, secrets) as log,
        staged(session.layout, planned.key, planned.folders, title) as folders,
    ):
        context = context_tar(planned.files, planned.dockerfile)
        seconds = deadline.for_work() if deadline is not None else None
        try:
            build = _compressed(session, title, make(folders))
            session.services.engine.build(build, context, log.take, seconds=seconds)
        except TimeoutError:
            if deadline is None:
                raise
            deadline.reached = True
            raise deadline.error(title) from None
        except BuildError as error:
            raise BuildError(log.failure(title, error.problems[0].what)) from error


def _compressed(session: Session, title: str, build: BuildImage) -> BuildImage:
    """Ask for layers compressed as pipeline.yaml says, of an engine that does it when it builds."""
    wanted = session.plan.pipeline.compression
    if wanted == _USUAL or build.archive is not None:
        return build
    if session.services.engine.info().compresses:
        return replace(build, compression=wanted)
    session.services.console.line(
        f"{title}: its layers will be {_USUAL}: for `compression: {wanted}` the engine needs containerd's image store"
    )
    return build
