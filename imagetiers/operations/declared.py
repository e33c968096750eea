"""Hold an image against what is declared of it: its configuration, its files, its device code, and commands run in it."""

from __future__ import annotations

import secrets
from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import reduce
from operator import or_

from imagetiers.building.deadline import Deadline
from imagetiers.errors import Interrupted, Problem, VerifyError
from imagetiers.judging.commands import commands_of, judge_command
from imagetiers.judging.files import judge_files, judge_programs
from imagetiers.judging.forbidden import PACKAGE_FILES, judge_forbidden
from imagetiers.judging.libraries import CACHE, judge_libraries
from imagetiers.judging.outcome import CheckOutcome
from imagetiers.judging.settings import judge_settings
from imagetiers.layers.archive import ImageFiles, SavedImage, read_images
from imagetiers.layers.model import LayerError, ReadOptions
from imagetiers.operations.running import run_container
from imagetiers.planning.commands import command_container
from imagetiers.planning.containers import Container
from imagetiers.planning.device_code import DeviceLibrary, device_libraries, judge, promise
from imagetiers.planning.plan import TierPlan, VerifyPlan
from imagetiers.planning.sizes import LayerSize
from imagetiers.services import Services
from imagetiers.session import Session

__all__ = ["Found", "hold_against", "read_image", "run_commands", "wanted"]

_ACCOUNTS = ("passwd", "group")
_LINES = 10_000  # of a command's output that are looked at: the last ones


@dataclass(frozen=True, slots=True)
class Found:
    """What came out of an image's checks, what its libraries hold for GPUs, and what its layers weigh, where they were read."""

    outcomes: tuple[CheckOutcome, ...] = ()
    libraries: tuple[DeviceLibrary, ...] = ()
    layers: tuple[LayerSize, ...] = ()


def wanted(verify: VerifyPlan) -> ReadOptions:
    """Return what has to be read of files for these checks."""
    names = {*_ACCOUNTS}
    for each in verify.declared:
        names |= {path.rpartition("/")[2] for path, file in each.checks.files.items() if file.reads}
    loading = any(each.checks.libraries is not None for each in verify.declared)
    packages = any(each.checks.forbid.packages for each in verify.declared)
    if loading:
        names |= {CACHE.rpartition("/")[2], *(f"ld-musl-{machine}.path" for machine in ("x86_64", "aarch64"))}
    if packages:
        names |= {path.rpartition("/")[2] for path in PACKAGE_FILES}
    return ReadOptions(
        contents=frozenset(names),
        loading=loading,
        device_code=verify.device is not None,
        credentials=any("credentials" in each.checks.forbid.kinds for each in verify.declared),
        folders=frozenset({"/var/lib/dpkg/status.d"}) if packages else frozenset(),
        sizes=True,  # their bytes pass by anyway
    )


_read_along: dict[str, tuple[ReadOptions, SavedImage]] = {}
"""Images, by their ids, that were in another's archive and will be asked for."""


def read_image(
    tier: TierPlan, image: str, session: Session, deadline: Deadline, along: Mapping[str, TierPlan]
) -> ImageFiles:
    """Read the files of an image, by its id, from the engine. Raises EngineError, VerifyError, Interrupted, OSError.

    Those `along`, by their ids, will be asked for by this process soon: they come in the same archive, which has the layers
    that they share once, and takes the engine little longer than the largest of them alone. What is theirs alone is read then.
    """
    services = session.services
    task, own = f"verify:{tier.name}", wanted(tier.verify)
    asked = reduce(or_, (wanted(each.verify) for each in along.values()), own)
    known, read = _read_along.pop(image, (ReadOptions(), None))

    def pieces() -> Iterator[bytes]:
        for piece in services.engine.save(tier.ref, *(each.ref for each in along.values())):
            if services.cancel.requested:
                raise Interrupted(Problem(task, "was interrupted"))
            deadline.check(task)
            yield piece

    try:
        if read is None or not known.covers(own):
            first = services.engine.layers(tier.ref) if along else None
            images = read_images(pieces(), asked, first, session.layout.work)
            tagged = {tag: found for found in images for tag in found.tags}
            read = images[0] if len(images) == 1 else tagged.get(tier.ref)
            if read is None:  # an engine that calls it otherwise
                return read_image(tier, image, session, deadline, {})
            _read_along.update({key: (asked, tagged[each.ref]) for key, each in along.items() if each.ref in tagged})
        return read.files()
    except LayerError as error:
        what = f"its files cannot be read, so nothing is known of them: {error}"
        raise VerifyError(Problem(task, what, f"docker save {tier.ref} shows what the engine has")) from error


def hold_against(tier: TierPlan, image: ImageFiles) -> Found:
    """Judge what was read of an image; what its layers weigh is for `weigh_image` to say."""
    declared = tier.verify.declared
    outcomes = [
        *judge_settings(declared, image.config, image.tree),
        *judge_programs(declared, image.tree, image.config),
        *judge_files(declared, image.tree),
        *judge_libraries(declared, image.tree, image.config),
        *judge_forbidden(declared, image.tree, image.config),
    ]
    libraries: tuple[DeviceLibrary, ...] = ()
    if tier.verify.device is not None:
        libraries = tuple(device_libraries(image.tree.entries.values()))
        wrong = [
            CheckOutcome(tier.name, "device code", problem.what, problem.hint)
            for problem in judge(promise(tier.verify.device), libraries, f"verify:{tier.name}")
        ]
        outcomes += wrong or [CheckOutcome(tier.name, "device code")]
    return Found(tuple(outcomes), libraries)


def run_commands(
    tier: TierPlan, services: Services, deadline: Deadline, *, gpus: bool = False, cpus: str = ""
) -> Iterator[CheckOutcome]:
    """Run the commands, each in a container of its own, with the host's `gpus` and on those `cpus`, or on all.

    Raises EngineError, VerifyError when the time is over, Interrupted.
    """
    for asks, command in commands_of(tier.verify.declared):
        lines: deque[str] = deque(maxlen=_LINES)
        container = command_container(tier, command, secrets.token_hex(8), gpus=gpus, cpus=cpus)
        code = _run(tier, container, services, deadline, lines)
        yield judge_command(asks, command, code, lines)


def _run(tier: TierPlan, given: Container, services: Services, deadline: Deadline, lines: deque[str]) -> int:
    task = f"verify:{tier.name}"
    code = run_container(task, given, services, deadline, lines.append)
    if deadline.reached:
        raise deadline.error(task, f" in {' '.join(given.argv)}")
    return code
