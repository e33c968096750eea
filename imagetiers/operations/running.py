"""A container that checks something: run to its end, and gone whatever ends it."""

from __future__ import annotations

from imagetiers.building.deadline import Deadline
from imagetiers.errors import EngineError, Interrupted, Problem
from imagetiers.planning.commands import COMPILE_STOP_SECONDS
from imagetiers.planning.containers import Container
from imagetiers.services import OnLine, Services

__all__ = ["run_container"]


def run_container(  # noqa: PLR0917  one value each
    task: str, given: Container, services: Services, deadline: Deadline, on_line: OnLine, files: bytes | None = None
) -> int:
    """Run a container with these `files` to its end, and remove it; return its exit code.

    It is ended when the time is over, and when somebody asks to stop. Raises EngineError, the error of the task for an engine
    that does not say that it has ended, Interrupted.
    """
    deadline.check(task)
    started: list[str] = []

    def stop() -> None:
        for container in started:
            services.engine.stop(container, COMPILE_STOP_SECONDS)

    # Started and removed within: the end of an interrupted process waits for these blocks of its threads, and for no more.
    with services.cancel.on_request(stop), deadline.stops(stop):
        container = services.engine.start(given, files)
        started.append(container)
        try:
            if services.cancel.requested or deadline.reached:
                stop()
            code = deadline.to_the_end(lambda: services.engine.follow(container, on_line))
        except TimeoutError:
            told = ", but the engine does not say that its container has ended"
            raise deadline.error(task, told) from None
        finally:
            try:
                services.engine.remove(container)
            except EngineError as error:
                services.console.line(f"{task}: {error}")
    if services.cancel.requested:
        raise Interrupted(Problem(task, "was interrupted"))
    return code
