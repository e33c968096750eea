"""image:<tier> of a tier that makes files: fetch or build what its key says, and put it where it goes."""

from __future__ import annotations

from pathlib import Path

from imagetiers.errors import BuildError, CorruptError, EngineError, Problem, StoreError
from imagetiers.layers.archive import is_oci_layout
from imagetiers.operations.image import build_tier
from imagetiers.planning.keys import short
from imagetiers.planning.observed import ObservedState
from imagetiers.planning.plan import TierPlan
from imagetiers.session import Session
from imagetiers.state import made_files
from imagetiers.state.observe import observe
from imagetiers.state.records import Record, keep, keep_inputs

__all__ = ["ensure_output"]


def ensure_output(session: Session, tier: TierPlan, *, force: bool = False) -> None:
    """Make sure that what the tier's key says lies where it goes, built or taken from the cache.

    With `force` it is built, and without BuildKit's layer cache. Raises BuildError, EngineError, StoreError or Interrupted.
    """
    task, output = f"image:{tier.name}", tier.config.output
    assert output is not None  # noqa: S101  the caller has looked
    with session.services.locks.hold(f"output-{tier.name}", task):
        seen = observe(session)
        if not force and not seen.made[tier.name]:
            return  # another doit was faster
        archive = session.layout.archive(tier.key)
        say = session.services.console.line
        try:
            archive.parent.mkdir(parents=True, exist_ok=True)
            if force or not _taken_from_cache(session, tier, archive):
                _build(session, tier, seen, archive, force=force)
                _put(session, tier, archive)
        except OSError as error:
            raise BuildError(
                Problem(task, f"{archive} cannot be written: {error.strerror}", "make room there")
            ) from error
        finally:
            archive.unlink(missing_ok=True)
        say(f"{task}: {output.dest} is what {short(tier.key)} makes")


def _put(session: Session, tier: TierPlan, archive: Path) -> None:
    """Put what was built where it goes. Raises BuildError where a folder cannot hold it."""
    task = f"image:{tier.name}"
    try:
        made_files.export(session.layout, tier, archive, task)
    except CorruptError as error:
        wrong = error.problems[0]
        raise BuildError(Problem(task, f"what it makes cannot be laid out: {wrong.what}", wrong.hint)) from error


def _taken_from_cache(session: Session, tier: TierPlan, archive: Path) -> bool:
    """Put what the cache has of the tier's key where it goes; say whether it had that, and as it should be."""
    task, say = f"image:{tier.name}", session.services.console.line
    if not made_files.restore(session, tier.key, archive):
        return False
    try:
        made_files.export(session.layout, tier, archive, task)
    except CorruptError as error:
        say(f"{task}: what the cache has of {short(tier.key)} cannot be taken, so it is made: {error}")
        return False
    say(f"{task}: {short(tier.key)} is in the cache")
    return True


def _build(session: Session, tier: TierPlan, seen: ObservedState, archive: Path, *, force: bool) -> None:
    task = f"image:{tier.name}"
    image = tier.config.output is not None and tier.config.output.runs
    expected, began = build_tier(session, tier, seen, force=force, archive=None if image else archive)
    if image:
        _save(session, tier, archive)
    seconds, size = session.services.now() - began, archive.stat().st_size
    if size > made_files.MAX_BYTES:
        raise BuildError(Problem(task, f"made {size / 1e9:.1f} GB; the limit is 16 GiB", "leave out what nobody needs"))
    session.services.console.line(f"{task}: {short(tier.key)} made in {seconds:.0f} s, {size / 1e6:,.1f} MB")
    try:
        made_files.publish(session, tier.key, archive)
    except StoreError as error:
        session.services.console.line(f"{task}: the cache does not keep what was made: {error}")
    record = Record("image", tier.name, tier.key, began, seconds, size=size)
    keep(session, tier.key_document, expected.attach_to(record))
    keep_inputs(session, tier.key, tier.inputs)


def _save(session: Session, tier: TierPlan, archive: Path) -> None:
    """Write the image that was built as an archive, and let the engine forget it: BuildKit's own OCI exporter is not in it."""
    engine = session.services.engine
    try:
        with archive.open("wb") as file:
            file.writelines(engine.save(tier.ref))
    finally:
        engine.untag(tier.ref)
    if not is_oci_layout(archive):
        what = "the engine's archives are not of OCI's layout"
        raise EngineError(Problem(f"image:{tier.name}", what, "Docker 25 or newer writes them so"))
