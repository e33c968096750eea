"""What is run in an image to check it, and beside it what will be run in those that come next.

It begins when the first image is checked, or while further images are built. Most of a check is one process that imports, so
of two processors one would idle. Each container has processors of its own then: OpenMP's threads wait for each other by
spinning, and two programs with as many threads as there are processors take ten times as long side by side as in turn.

What ran beside something decides nothing but for the better: unless all of it has passed, it is run once more, alone. It may
have failed for want of room. So may a build: one that was killed is made once more, alone.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, wait
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from weakref import WeakKeyDictionary

from imagetiers.building.deadline import Deadline
from imagetiers.errors import EngineError, ImagetiersError, Interrupted, Problem, VerifyError
from imagetiers.judging.outcome import CheckOutcome
from imagetiers.judging.python import python_checks
from imagetiers.operations.checks import outcomes, run_checks, unfinished
from imagetiers.operations.declared import run_commands
from imagetiers.patience import Background
from imagetiers.planning.plan import TierPlan
from imagetiers.services import Cancellation, EngineInfo
from imagetiers.session import Session
from imagetiers.state.registry import passed_before

__all__ = ["Coming", "begin_checks", "end_checks", "run_inside", "takes_gpus"]

_MOST = 4
"""Images in which something runs at a time."""

_MEMORY = 2 << 30
"""Bytes that the machine has for each of them, at least."""

_GOING = 15.0
"""Seconds that are waited for what was asked to end: a container has ten."""

_UNFINISHED = [CheckOutcome("", "", "it did not come to its end")]


@dataclass(frozen=True, slots=True)
class Coming:
    """The images, by their ids, whose checks come next, and the session for them: without the time limit of the one before."""

    session: Session
    tiers: Mapping[str, TierPlan] = field(default_factory=dict)


def run_inside(
    session: Session, tier: TierPlan, image: str, deadline: Deadline, *, gpus: bool = False, coming: Coming
) -> list[CheckOutcome]:
    """Run what is asked of the image with that id in it, with the host's `gpus`, and begin what is asked of those `coming`.

    Raises EngineError, VerifyError when the time is over, Interrupted, and OSError for the log.
    """
    if not any(each.verify.runs for each in (tier, *coming.tiers.values())):
        return []
    task, services, ahead = f"verify:{tier.name}", session.services, _ahead(session, coming)
    begun = ahead.take(image, tier)
    ahead.go_on(coming, deadline)
    found = _found(begun, task, deadline) if begun is not None else None
    if services.cancel.requested:
        raise Interrupted(Problem(task, "was interrupted"))
    if found is None and not ahead.busy:
        return _run(session, tier, deadline, gpus=gpus)
    if found is None:
        found = _UNFINISHED
        with contextlib.suppress(EngineError):
            found = _run(session, tier, deadline, gpus=gpus, cpus=ahead.cpus(0))
    if all(each.passed for each in found):
        return found
    services.console.line(f"{task}: not all has passed beside the checks of other images, so it is run again, alone")
    ahead.stop()
    return _run(session, tier, deadline, gpus=gpus)


def begin_checks(session: Session, tier: TierPlan, image: str) -> None:
    """Begin what will be asked of the image with that id: it was built a moment ago, and others still are."""
    if not tier.verify.runs:
        return
    with contextlib.suppress(EngineError):  # whose turn it is will be told
        coming = Coming(session, {image: tier})
        _ahead(session, coming).go_on(coming, Deadline(tier.config.verify.timeout))


def end_checks(session: Session) -> bool:
    """End what has begun ahead, and begin nothing more: somebody must be alone. Say whether anything was going on."""
    with _making:
        ahead = _of_doits.get(session.background)
    if ahead is None or not ahead.busy:
        return False
    ahead.stop()
    return True


def takes_gpus(tier: TierPlan) -> bool:
    """Say whether the host's GPUs, if it has any, are for the tier's checks: it is compiled for them, and something is run."""
    return tier.verify.device is not None and tier.verify.runs


def _run(session: Session, tier: TierPlan, deadline: Deadline, *, gpus: bool, cpus: str = "") -> list[CheckOutcome]:
    """Run it to its end, on all processors or on those."""
    services, found = session.services, [*run_commands(tier, session.services, deadline, gpus=gpus, cpus=cpus)]
    if tier.verify.scripts or python_checks(tier.verify.declared):
        log = session.layout.log(tier.name, "verify", tier.key)
        checked = run_checks(tier, log, services, deadline, gpus=gpus, cpus=cpus)
        if deadline.reached:
            raise deadline.error(f"verify:{tier.name}", unfinished(checked))
        found += outcomes(tier, checked)
    return found


class _Ending:
    """A Cancellation of its own: asked to stop alone, or as everything is."""

    def __init__(self, everything: Cancellation) -> None:
        self._everything = everything
        self._lock = threading.Lock()
        self._asked = False
        self._stops: list[Callable[[], None]] = []

    @property
    def requested(self) -> bool:
        """Whether it has been asked, or everything has."""
        return self._asked or self._everything.requested

    @contextmanager
    def on_request(self, stop: Callable[[], None]) -> Iterator[None]:
        """While the block runs, call `stop` when it is asked to."""
        with self._everything.on_request(stop):
            with self._lock:
                asked = self._asked
                self._stops.append(stop)
            if asked:
                stop()
            try:
                yield
            finally:
                with self._lock:
                    self._stops.remove(stop)

    def request(self) -> None:
        """Ask to stop."""
        with self._lock:
            self._asked = True
            stops = list(self._stops)
        for stop in stops:
            with contextlib.suppress(ImagetiersError):  # whoever follows the container learns that it does not end
                stop()


@dataclass(frozen=True, slots=True)
class _Begun:
    """What comes out of it, None where that was known before or it never ran; and how it is ended."""

    found: Future[list[CheckOutcome] | None]
    ending: _Ending


class _Ahead:
    """What is run ahead in one doit, a container a share of the processors; the first share is for whose turn it is."""

    def __init__(self, info: EngineInfo) -> None:
        self._processors, self._gpus = info.cpus, info.gpus
        self._shares = max(1, min(info.cpus, _MOST, info.memory // _MEMORY)) if info.cpusets else 1
        self._lock = threading.Lock()
        self._known: set[tuple[str, str]] = set()
        self._waiting: dict[tuple[str, str], tuple[Session, TierPlan]] = {}
        self._begun: dict[tuple[str, str], _Begun] = {}
        self._free = [*range(1, self._shares)]
        self._until = 0.0
        self._over = False

    @property
    def busy(self) -> bool:
        """Whether anything runs ahead."""
        with self._lock:
            return len(self._free) < self._shares - 1

    def cpus(self, share: int) -> str:
        """Return the processors of a share, as Docker numbers them."""
        first, behind = (number * self._processors // self._shares for number in (share, share + 1))
        return f"{first}-{behind - 1}" if behind - first > 1 else str(first)

    def take(self, image: str, tier: TierPlan) -> _Begun | None:
        """It is a tier's turn: return what has begun of it."""
        key = image, tier.verify.check
        with self._lock:
            self._known.add(key)
            self._waiting.pop(key, None)
            return self._begun.pop(key, None)

    def go_on(self, coming: Coming, deadline: Deadline) -> None:
        """Run what is `coming` ahead, as long as half of the time is left to whose turn it is: it may have to run again."""
        left = deadline.for_work()
        with self._lock:
            self._until = time.monotonic() + (deadline.left() if left is None else left / 2)
            for image, tier in coming.tiers.items() if self._shares > 1 else ():
                key = image, tier.verify.check
                # GPUs are there once, for whose turn it is.
                if key not in self._known and tier.verify.runs and not (self._gpus and takes_gpus(tier)):
                    self._waiting[key] = coming.session, tier
                self._known.add(key)
        self._begin()

    def stop(self) -> None:
        """Begin nothing more, and end what has begun: somebody must be alone."""
        with self._lock:
            self._over = True
            going = [each for each in self._begun.values() if not each.found.done()]
        for each in going:
            each.ending.request()
        wait([each.found for each in going], _GOING)

    def _end(self, ending: _Ending) -> None:
        with self._lock:
            self._over = True
        ending.request()

    def _begin(self) -> None:
        while True:
            with self._lock:
                if self._over or not self._waiting or not self._free or time.monotonic() >= self._until:
                    return
                # The last one: a tier is asked what its ancestors are, and more.
                (image, check), (session, tier) = self._waiting.popitem()
                share, ending = self._free.pop(), _Ending(session.services.cancel)
                deadline = Deadline(min(self._until - time.monotonic(), tier.config.verify.timeout), kind=VerifyError)
                run = _Run(session, tier, image, ending, deadline, self.cpus(share))
                found = session.background.begin(run, partial(self._end, ending))
                self._begun[image, check] = _Begun(found, ending)
            found.add_done_callback(partial(self._give_back, share))

    def _give_back(self, share: int, _: object) -> None:
        with self._lock:
            self._free.append(share)
        self._begin()


@dataclass(frozen=True, slots=True)
class _Run:
    """One that is run ahead."""

    session: Session
    tier: TierPlan
    image: str
    ending: _Ending
    deadline: Deadline
    cpus: str

    def __call__(self) -> list[CheckOutcome] | None:
        """Run it, unless this image has passed before."""
        if passed_before(self.session, self.tier, self.image) is not None or self.ending.requested:
            return None
        services = replace(self.session.services, cancel=self.ending)
        session = replace(self.session, services=services)
        session = session.with_engine(self.deadline.limited_engine(services.engine, f"verify:{self.tier.name}"))
        return _run(session, self.tier, self.deadline, gpus=False, cpus=self.cpus)


_of_doits: WeakKeyDictionary[Background, _Ahead] = WeakKeyDictionary()
_making = threading.Lock()


def _ahead(session: Session, coming: Coming) -> _Ahead:
    """Return what is run ahead in this doit; the daemon is asked as the `session` at hand asks it."""
    with _making:
        found = _of_doits.get(coming.session.background)
        if found is None:
            found = _of_doits[coming.session.background] = _Ahead(session.services.engine.info())
        return found


def _found(begun: _Begun, task: str, deadline: Deadline) -> list[CheckOutcome] | None:
    """Wait for what was begun ahead; None where it was not run."""
    try:
        return deadline.within(task, begun.found.result)
    except (ImagetiersError, OSError):
        begun.ending.request()
        if deadline.reached:
            raise
        return _UNFINISHED
