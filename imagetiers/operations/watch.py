"""doit watch: whenever what tiers are made of is saved, build them; and run a command in the new image.

Whether a save matters, the keys say: what is no input of these tiers and their ancestors changes none of them. A round is a
doit of its own (`Build`): what a build says and keeps is as ever. What is saved meanwhile, the next look finds.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from imagetiers.config.layout import Layout
from imagetiers.errors import EngineError, Interrupted, LockedError, PipelineError, Problem
from imagetiers.inputs.repository import load_repository
from imagetiers.planning.containers import Container
from imagetiers.planning.keys import short
from imagetiers.planning.labels import Label
from imagetiers.planning.make import make_plan
from imagetiers.planning.plan import Plan
from imagetiers.planning.watching import changed_inputs, keys_of
from imagetiers.repository_file import Reads
from imagetiers.session import Session
from imagetiers.state.plan_memory import recall_hashes

__all__ = ["Build", "Built", "Saves", "watch"]

_STOP_SECONDS = 5
_SHOWN = 3


@dataclass(frozen=True, slots=True)
class Built:
    """How a doit went: the tasks that it has done, and of one that failed its name and what it said."""

    done: tuple[str, ...] = ()
    failed: str = ""
    error: str = ""


Build = Callable[[tuple[str, ...]], Built]
"""Runs a doit of these tasks to its end."""

Saves = Callable[[Collection[Path]], Iterator[bool]]
"""Yields when something in folders has changed, and now and then all the same."""


@dataclass(frozen=True, slots=True)
class _Look:
    """The repository at one moment: its plan, or what is wrong with it, and the folders that were looked into."""

    plan: Plan | None
    wrong: str
    folders: frozenset[Path]


def watch(session: Session, names: tuple[str, ...], build: Build, saves: Saves, *, run: tuple[str, ...] = ()) -> None:
    """Build these tiers now and after each save that matters, until somebody asks to stop; then return.

    With words to `run`, a container of the first tier's image runs them, and is ended and begun anew when the image is
    another. Raises LockedError where somebody else watches them in this checkout, EngineError.
    """
    watching = _Watching(session, names, build, run)
    with contextlib.ExitStack() as stack:
        for name in sorted(names):
            stack.enter_context(_alone(session, name))
        stack.callback(watching.stop)
        with contextlib.suppress(KeyboardInterrupt, Interrupted):
            watching.go_on(saves)
    session.services.console.line(f"{watching.title}: no longer watched")


@contextlib.contextmanager
def _alone(session: Session, name: str) -> Iterator[None]:
    try:
        held = contextlib.ExitStack()
        held.enter_context(session.services.locks.hold(f"watch-{name}", f"watch {name}", lambda: 0.0))
    except LockedError:
        raise LockedError(
            Problem(f"watch {name}", "is watched already in this checkout", "end the other one first")
        ) from None
    with held:
        yield


@dataclass
class _Watching:
    session: Session
    names: tuple[str, ...]
    build: Build
    run: tuple[str, ...]
    container: str = ""

    @property
    def title(self) -> str:
        return ", ".join(self.names)

    def go_on(self, saves: Saves) -> None:
        """Look, build, and wait for the next save."""
        self._remove_left()
        look = self._look()
        self.say(f"watches {len(look.folders)} folders; Ctrl-C ends it")
        last = self._round(None, look)
        while True:
            first = True
            for changed in saves(look.folders):
                if self.session.services.cancel.requested:
                    return
                if not changed and not first:
                    continue
                # Once without a change, for what was saved before the folders were watched.
                first, before, look = False, look, self._look()
                if look.wrong and look.wrong != before.wrong:
                    self.say(f"the pipeline is wrong, and nothing was built\n{_indented(look.wrong)}")
                elif look.plan is not None and (
                    before.wrong or last is None or self._keys(look.plan) != self._keys(last)
                ):
                    last = self._round(last, look)
                if look.folders != before.folders:
                    break

    def say(self, text: str) -> None:
        """Print a line of the tiers."""
        self.session.services.console.line(f"{self.title}: {text}")

    def _keys(self, plan: Plan) -> object:
        return keys_of(plan, self.names)

    def _look(self) -> _Look:
        layout, pipeline = self.session.layout, self.session.plan.pipeline
        reads = Reads(recall_hashes(layout))
        wrong, plan = "", None
        try:
            repository = load_repository(layout, pipeline.variant, reads, pipeline.given)
            plan = make_plan(repository, datetime.now(UTC).date())
            missing = [name for name in self.names if name not in plan.tiers]
            if missing:
                wrong, plan = f"there is no tier '{missing[0]}' any more", None
        except PipelineError as error:
            wrong = str(error)
        return _Look(plan, wrong, _folders(layout, reads))

    def _round(self, last: Plan | None, look: _Look) -> Plan | None:
        """Build what the look has found, say how that went, and let the container be of the new image."""
        plan = look.plan
        if plan is None:
            return last
        began = self.session.services.now()
        files = changed_inputs(last, plan, self.names, self.session.layout.root) if last is not None else ()
        built = self.build(tuple(f"image:{name}" for name in self.names))
        seconds = self.session.services.now() - began
        told = f"{_some(files)} changed: " if files else ""
        if built.failed:
            self.say(f"{told}{built.failed} failed after {seconds:.0f} s\n{_indented(built.error)}")
            return plan
        done = [task for task in built.done if task.partition(":")[0] in {"compile", "image"}]
        what = f"{', '.join(done)} in {seconds:.0f} s" if done else "nothing to build"
        self.say(f"{told}{what}{self._begin(plan)}")
        return plan

    # ---- the container ----

    def _begin(self, plan: Plan) -> str:
        """Let the container be one of the image as it is now; return what is said of it."""
        if not self.run:
            return ""
        tier = plan.tiers[self.names[0]]
        self.stop()
        engine = self.session.services.engine
        container = Container(
            name=f"imagetiers-watch-{tier.name}-{short(tier.key)}-{self.session.layout.checkout}",
            image=tier.ref,
            argv=self.run,
            labels={Label.WATCH: self._label},
            network="bridge",
        )
        try:
            if not engine.has_image(tier.ref) and plan.pipeline.registry is not None:
                self.build((f"pull:{tier.name}",))  # the registry has it, which is enough for a build
            if not engine.has_image(tier.ref):
                return ""  # something was saved meanwhile, and that was built: the next look finds it
            self.container = engine.start(container)
        except EngineError as error:
            return f"; it does not run:\n{_indented(str(error))}"
        threading.Thread(target=self._follow, args=[self.container], name="watch", daemon=True).start()
        return f"; runs {' '.join(self.run)}"

    def _follow(self, container: str) -> None:
        console = self.session.services.console
        with contextlib.suppress(EngineError):
            code = self.session.services.engine.follow(container, lambda line: console.line(f"  {line}"))
            if self.container == container:  # nobody has ended it
                self.say(f"{self.run[0]} has ended with exit code {code}; it runs again after the next build")

    @property
    def _label(self) -> str:
        return f"{self.session.layout.checkout}-{self.names[0]}"

    def stop(self) -> None:
        """End the container, if there is one."""
        container, self.container = self.container, ""
        if container:
            self.session.services.engine.stop(container, _STOP_SECONDS)
            self.session.services.engine.remove(container)

    def _remove_left(self) -> None:
        """Remove what a watch has left that was killed: we hold its lock."""
        engine = self.session.services.engine
        for left in engine.find_containers(Label.WATCH, self._label) if self.run else ():
            engine.remove(left.id)


def _folders(layout: Layout, reads: Reads) -> frozenset[Path]:
    """Return the folders in which a change may be one of what was read; a file that is not there may come to be."""
    looked = {Path(path) for path in (*reads.files, *reads.targets, *reads.kinds)}
    found = {path if path.is_dir() else path.parent for path in looked} | {layout.root}
    return frozenset(path for path in found if path.is_dir() and not path.is_relative_to(layout.work))


def _some(files: tuple[str, ...]) -> str:
    more = f" and {len(files) - _SHOWN} more" if len(files) > _SHOWN else ""
    return ", ".join(files[:_SHOWN]) + more


def _indented(text: str) -> str:
    return "\n".join(f"  {line}" for line in text.splitlines())
