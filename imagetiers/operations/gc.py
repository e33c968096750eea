"""doit gc: room that comes back on this machine: images, builder images and their layers, wheels, logs, what was left over.

Unlike the cache (`operations.cache_gc`), where everybody builds, this machine knows who uses what: locks and containers tell.
So nothing waits for a second run. Killed at any moment it has removed less than it would; what was put aside, the next one
finds.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from queue import Empty

from imagetiers.errors import EngineError, ImagetiersError, LockedError
from imagetiers.operations.gc_local import held_locks, local_items, needed_here, remove
from imagetiers.patience import answer_within
from imagetiers.planning.housekeeping import Item, Limits, Sweep, sweep_now
from imagetiers.planning.keys import short
from imagetiers.planning.observed import Stored, StoredImage
from imagetiers.planning.plan import Plan
from imagetiers.planning.room import (
    BRANCHES,
    BUILDERS,
    IMAGES,
    builds_of_others,
    image_items,
    needed_images,
    plan_keys,
    room,
    wheels_of,
)
from imagetiers.report.amounts import age_text, size_text
from imagetiers.report.swept import swept_lines
from imagetiers.session import Session

__all__ = ["RoomOptions", "could_come_back", "make_room", "room_line"]

DAY = 86_400.0
_AGED = (BRANCHES, "wheels here", "ccache here", "branches here", "left over")
_HINT_SECONDS = 1.0
_HINT_LEAST = 10_000_000  # bytes
_REMEMBERED = "state/signed"
"""What was seen of signatures: forgetting it costs safety and not time, so `cache:gc` does, much later."""


@dataclass(frozen=True, slots=True)
class RoomOptions:
    """What stays of what nobody needs now: what was used in `max_age` seconds, and the `keep` newest of a tier and variant."""

    max_age: float = 14 * DAY
    keep: int = 2
    dry_run: bool = False

    @property
    def limits(self) -> Mapping[str, Limits]:
        """The limits by kind of thing. What no tier can be told of goes by age alone."""
        counted = Limits(self.max_age, keep=self.keep)
        aged = dict.fromkeys(_AGED, Limits(self.max_age))
        marks = Limits(max(self.max_age, DAY))  # they take no room, and the next doit would be slower
        return {**dict.fromkeys((IMAGES, BUILDERS, "logs here"), counted), **aged, "marks here": marks}


@dataclass(frozen=True, slots=True)
class _Decided:
    """What stays and goes: images on the engine, and files here; `busy` are locks whose holders need nobody knows what."""

    stored: Stored
    images: Sweep
    here: Sweep
    busy: tuple[str, ...]

    @property
    def going(self) -> dict[str, StoredImage]:
        """The images that go, by id."""
        ids = {item.name for item in self.images.delete}
        return {image.info.id: image for image in self.stored.images if image.info.id in ids}


def make_room(session: Session, plans: Iterable[Plan], options: RoomOptions) -> None:
    """Remove what nobody needs; `plans` are the pipeline's in all variants. Prints what goes, and the bytes that come back.

    Raises EngineError, OSError.
    """
    known = list(plans)
    with session.services.locks.hold("gc", "gc"):
        decided = _decide(session, session.services.engine.stored(), known, options, local_items(session.layout))
        freed = room(decided.stored.images, decided.going)
        for line in _lines(session, decided, options, freed):
            session.services.console.line(line)
        if not options.dry_run:
            freed -= _remove_images(session, decided.going.values())
            kept = sum(item.size for item in decided.here.delete if not _remove_here(session, item))
        else:
            kept = 0
        come = "would come back" if options.dry_run else "came back"
        here = sum(item.size for item in decided.here.delete) - kept
        session.services.console.line(f"{size_text(freed + here)} {come}")


def room_line(session: Session, plans: Callable[[], Iterable[Plan]]) -> Iterator[str]:
    """Yield how much could come back, where it is worth a line and told at once. A hint: no error is told."""
    with contextlib.suppress(Empty, ImagetiersError, OSError):
        size = answer_within(_HINT_SECONDS, lambda: could_come_back(session, plans))
        if size >= _HINT_LEAST:
            yield f"{size_text(size)} of this machine could come back: doit gc --dry-run"


def could_come_back(session: Session, plans: Callable[[], Iterable[Plan]]) -> int:
    """Return the bytes that `make_room` would free, ccache directories left out, which take long to measure.

    The `plans` of all variants are made only where something may go by this one's. Raises EngineError, PipelineError, OSError.
    """
    options, here = RoomOptions(), local_items(session.layout, ccache=False)
    stored = session.services.engine.stored()
    decided = _decide(session, stored, [session.plan], options, here)
    if decided.images.delete or decided.here.delete:
        decided = _decide(session, stored, list(plans()), options, here)
    return room(stored.images, decided.going) + sum(item.size for item in decided.here.delete)


def _decide(session: Session, stored: Stored, plans: list[Plan], options: RoomOptions, local: list[Item]) -> _Decided:
    now, layout, limits = session.services.now(), session.layout, options.limits
    keys = plan_keys(plans)
    locks = held_locks(layout, session.services.locks.held)
    busy = builds_of_others(locks, keys)
    held = locks | {f"compile-{key}" for key in stored.compiling}
    wanted = keys | {name.partition("-")[2] for name in held}
    repositories = {tier.repository for plan in plans for tier in plan.tiers.values()}
    items = image_items(stored.images, session.plan.pipeline.name, session.trust, repositories)
    everything = frozenset(item.name for item in items)
    images = sweep_now(items, everything if busy else needed_images(stored.images, wanted), limits, now)
    staying = {item.name for item in images.keep}
    here = [item for item in local if item.group != _REMEMBERED]
    wheels = frozenset(wheels_of(stored.images, staying))
    needed = needed_here(layout, here, wanted | wheels, lambda folder: session.services.locks.held(folder) | held)
    lines = {tier.compile.namespace for plan in plans for tier in plan.tiers.values() if tier.compile is not None}
    needed |= {item.name for item in here if item.kind == "ccache here" and any(line in item.name for line in lines)}
    needed |= {
        item.name for item in here if (busy and item.kind == "wheels here") or f"sha256:{_image_of(item)}" in staying
    }
    return _Decided(stored, images, sweep_now(here, needed, limits, now), busy)


def _image_of(item: Item) -> str:
    """Return the image whose verdict a mark is; something that is no image's id for all else."""
    return item.name.rpartition("/")[2].partition(".")[0]


def _remove_images(session: Session, images: Collection[StoredImage]) -> int:
    """Remove images, one by one, and the records that BuildKit has of what only they shared; return the bytes that stay.

    BuildKit keeps the layers of images in its cache, and without that they would only change sides.
    """
    services, stay = session.services, 0
    records = services.engine.build_cache() if images else ()
    for image in images:
        key = image.compile_key or image.info.key
        lock = f"{'compile' if image.compile_key else 'image'}-{key}"
        try:
            with services.locks.hold(lock, "gc", lambda: 0.0):
                shared = {record.id for record in records if record.shared}
                for ref in image.info.refs:
                    services.engine.untag(ref)
                records = services.engine.build_cache()
                lost = {each.id: each.size for each in records if each.id in shared and not each.shared}
                gone = services.engine.prune_build_cache(lost) if lost else frozenset()
        except (LockedError, EngineError) as error:
            services.console.line(f"gc: {image.info.refs[0]} stays: {error}")
            stay += room([image], {image.info.id})
        else:
            stay += sum(size for id_, size in lost.items() if id_ not in gone)
    return stay


def _remove_here(session: Session, item: Item) -> bool:
    """Remove a file or folder here; say whether it is gone. Wheels that a build may have begun to use stay."""
    if item.kind != "wheels here":
        remove(session.layout, item)
        return True
    key = item.name.rpartition("/")[2]
    try:
        with session.services.locks.hold(f"compile-{key}", "gc", lambda: 0.0):
            if any(name.startswith("image-") for name in held_locks(session.layout, session.services.locks.held)):
                session.services.console.line(f"gc: {item.name} stays: an image is being built")
                return False
            remove(session.layout, item)
    except LockedError as error:
        session.services.console.line(f"gc: {item.name} stays: {error}")
        return False
    return True


def _lines(session: Session, decided: _Decided, options: RoomOptions, freed: int) -> list[str]:
    now, would = session.services.now(), "would be " if options.dry_run else ""
    lines = [f"engine, images of {session.plan.pipeline.name}:"]
    for kind in (IMAGES, BRANCHES, BUILDERS):
        kept, gone = (
            [item for item in items if item.kind == kind] for items in (decided.images.keep, decided.images.delete)
        )
        if kept or gone:
            lines.append(f"  {kind}: {len(kept)} kept" + (f", {len(gone)} {would}removed" if gone else ""))
        for item in gone:
            refs = ", ".join(decided.going[item.name].info.refs)
            lines.append(f"    {refs}  {size_text(item.size)}, last used {age_text(now - item.used)} ago")
    if decided.images.delete:
        lines.append(f"  layers that no other image has: {size_text(freed)}")
    if decided.busy:
        verb, _, key = decided.busy[0].partition("-")
        lines.append(f"  images and wheels stay: {verb} {short(key)} is going on, which this pipeline does not have")
    return [*lines, *swept_lines(str(session.layout.work), decided.here, 0, dry_run=options.dry_run)]
