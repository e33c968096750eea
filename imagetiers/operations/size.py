"""size:<tier>: what an image weighs, which Dockerfile line made each layer, and what stands in it twice; and its budget."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from imagetiers.documents import parse_object
from imagetiers.errors import EngineError, Problem, StoreError
from imagetiers.inputs.repository import load_repository
from imagetiers.layers.archive import ImageFiles, read_saved
from imagetiers.layers.model import LayerError, ReadOptions
from imagetiers.planning.keys import short
from imagetiers.planning.observed import ImageInfo, Present, Unknown
from imagetiers.planning.plan import TierPlan
from imagetiers.planning.sizes import Made, Sizes, attribute, weigh_image
from imagetiers.report.amounts import size_text
from imagetiers.report.sizes import Earlier, Pulled, duplicate_line, size_lines
from imagetiers.session import Session
from imagetiers.state.observe import observe

__all__ = ["budget_problems", "show_size"]


@dataclass(frozen=True, slots=True)
class _Weighed:
    sizes: Sizes
    made: tuple[Made, ...]

    @property
    def first_own(self) -> int:
        """The first layer that a Dockerfile of the pipeline has made; all count where nobody can tell."""
        return next((number for number, made in enumerate(self.made) if made.where), 0)


def show_size(session: Session, tier: TierPlan) -> None:
    """Print what the tier's image weighs. Raises EngineError."""
    if tier.config.output is not None:
        what = f"makes files and no image: they are in {tier.config.output.dest}"
        raise EngineError(Problem(f"size:{tier.name}", what, "doit size of a tier that makes an image"))
    seen = observe(session)
    image = seen.image(tier)
    if image is None:
        hint = f"doit pull:{tier.name}" if seen.published(tier) is not None else f"doit image:{tier.name}"
        raise EngineError(Problem(f"size:{tier.name}", seen.unknown or "there is no image of this key here", hint))
    try:
        files = read_saved(iter(session.services.engine.save(image.id)), ReadOptions(sizes=True))
    except LayerError as error:
        raise EngineError(Problem(f"size:{tier.name}", str(error))) from error
    weighed = _weigh(session, tier, files, weigh_image(files.layers))
    pulled = _pulled(session, tier)
    lines = size_lines(weighed.sizes, weighed.made, weighed.first_own, _earlier(session, tier, image), pulled)
    for line in (f"{tier.name} {short(tier.key)}", *lines):
        session.services.console.line(line)


def budget_problems(
    session: Session, tier: TierPlan, image: ImageInfo, read: tuple[ImageFiles, Sizes] | None
) -> Iterator[Problem]:
    """Yield what of an image exceeds its budget, and what could not be held against it. Raises EngineError.

    `read` is what was read of the image, and what it weighs: it is there where the budget `reads_layers`.
    """
    task, budget = f"verify:{tier.name}", tier.verify.budget
    look = f"doit size:{tier.name} shows what each layer weighs"
    if budget.size is not None and image.size > budget.size:
        over = (image.size - budget.size) / 1e6
        yield Problem(task, f"the image is {image.size / 1e6:,.0f} MB, {over:,.0f} MB over its budget", look)
    if budget.growth is not None:
        yield from _growth(session, tier, image, budget.growth)
    if read is None or not budget.reads_layers:
        return
    weighed = _weigh(session, tier, *read)
    for number, size in enumerate(weighed.sizes.layers):
        if budget.layer is not None and size > budget.layer and number >= weighed.first_own:
            made = weighed.made[number]
            what = f"a layer is {size_text(size)}, and may be {size_text(budget.layer)}: {made.instruction}"
            yield Problem(made.where or task, what, "let several RUNs make it, or leave out what nobody needs")
    twice = weighed.sizes.duplicate_bytes(weighed.first_own)
    if budget.duplicate_bytes is not None and twice > budget.duplicate_bytes:
        worst = next(each for each in weighed.sizes.duplicates if each.layer >= weighed.first_own)
        what = f"{size_text(twice)} stand in the image twice, and {size_text(budget.duplicate_bytes)} may; most of it:"
        yield Problem(task, f"{what} {duplicate_line(worst, weighed.made)}", look)


def _weigh(session: Session, tier: TierPlan, files: ImageFiles, sizes: Sizes) -> _Weighed:
    return _Weighed(sizes, attribute(files, _instructions(session, tier)))


def _instructions(session: Session, tier: TierPlan) -> list[tuple[str, str]]:
    """Return place and keyword of every instruction that the image's history has of our Dockerfiles, eldest first."""
    repository = load_repository(session.layout, session.plan.pipeline.variant, given=session.plan.pipeline.given)
    inputs = repository.inputs[tier.name]
    found: list[tuple[str, str]] = []
    while True:
        name = inputs.dockerfile.name
        own = [
            (f"{name}:{instruction.line}", instruction.keyword)
            for stage in inputs.chain(inputs.target)
            for instruction in stage.instructions
        ]
        found = [*own, *found]
        if inputs.tier.parent is None or not inputs.stands_on_parent:
            return found
        inputs = repository.inputs[inputs.tier.parent]


def _growth(session: Session, tier: TierPlan, image: ImageInfo, limit: int) -> Iterator[Problem]:
    task = f"verify:{tier.name}"
    earlier = _earlier(session, tier, image)
    if isinstance(earlier, Unknown):
        hint = "budget: {growth: …} needs its record in the cache; without one, raise the limit by removing it once"
        yield Problem(task, f"by how much the image has grown is not known: {earlier.reason}", hint)
    elif earlier is None:
        session.services.console.line(f"{task}: there is no earlier image, so none that it could have grown against")
    elif image.size - earlier.size > limit:
        grown = f"{size_text(image.size - earlier.size)} larger than {earlier.name}, and may be {size_text(limit)}"
        yield Problem(task, f"the image is {grown}", f"doit size:{tier.name} shows which layers are new")


def _earlier(session: Session, tier: TierPlan, image: ImageInfo) -> Earlier | Unknown | None:
    """Return the image before this one: that of the registry's friendly tag, or else the newest of another key here."""
    pipeline = session.plan.pipeline
    if pipeline.registry is not None:
        ref = tier.tags[0]
        answer = session.services.registry.look_up([ref])[ref]
        if isinstance(answer, Unknown):
            return answer
        if isinstance(answer, Present):
            return _published(session, tier, ref, answer)
    others = [
        other
        for other in session.services.engine.images()
        if (other.pipeline, other.variant, other.tier) == (pipeline.name, pipeline.variant or "", tier.name)
        and other.key != tier.key
        and other.usable(session.trust)
    ]
    if not others:
        return None
    newest = max(others, key=lambda other: other.created)
    before, now = (session.services.engine.layers(each.id) for each in (newest, image))
    return Earlier(short(newest.key), newest.size, sum(each in set(before) for each in now))


def _published(session: Session, tier: TierPlan, ref: str, answer: Present) -> Earlier | Unknown | None:
    """Return what the image of the friendly tag weighs, unpacked: only who built it knows that, and has recorded it."""
    info = session.services.registry.describe({ref: answer}).get(ref)
    if isinstance(info, Unknown):
        return info
    if info is None or not info.key:
        return Unknown(f"{ref} is no image of this pipeline")
    if info.key == tier.key:
        return None
    prefix = f"records/{tier.name}/image/"
    try:
        names = [
            blob.name for blob in session.services.store.list(prefix) if blob.name.endswith(f"-{short(info.key)}.json")
        ]
        records = [parse_object(session.services.store.read(name)[0]) or {} for name in sorted(names)]
    except StoreError as error:
        return Unknown(str(error))
    sizes = [record["size"] for record in records if isinstance(record.get("size"), int) and record["size"] > 0]
    return (
        Earlier(ref, sizes[-1], None)
        if sizes
        else Unknown(f"nobody has recorded what {ref} ({short(info.key)}) weighs")
    )


def _pulled(session: Session, tier: TierPlan) -> Pulled | None:
    """Return what a pull fetches: of the key's image in the registry, and of it over that of the friendly tag."""
    if session.plan.pipeline.registry is None:
        return None
    friendly = tier.tags[0]
    answers = session.services.registry.look_up([tier.ref, friendly])
    own, before = answers[tier.ref], answers[friendly]
    if not isinstance(own, Present):
        return None
    known = {digest for digest, _ in before.layers} if isinstance(before, Present) else set()
    update = sum(size for digest, size in own.layers if digest not in known)
    return Pulled(
        tuple(size for _, size in own.layers), update if isinstance(before, Present) and before != own else None
    )
