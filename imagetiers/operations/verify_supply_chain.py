"""verify-supply-chain: what a published image is signed with, made of and made from, asked of the registry alone.

It needs no pipeline, no cache and no engine: a reference and public keys, on a machine that has never seen the repository.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field

from imagetiers.config.references import repository_of
from imagetiers.documents import parse_object
from imagetiers.errors import ImagetiersError, Problem, VerifyError
from imagetiers.planning.attachments import KINDS, AttachmentKind, predicate_of
from imagetiers.planning.keys import short
from imagetiers.planning.observed import Absent, ImageInfo, Present, Unknown
from imagetiers.planning.provenance import MadeFrom, read_provenance
from imagetiers.planning.sboms import component_count
from imagetiers.services import Notary, Registry

__all__ = ["verify_supply_chain"]

_SHOWN = 8  # materials, beside the files


@dataclass
class _Image:
    """One image in the registry, who is asked about it, and what was found wrong."""

    ref: str
    repository: str
    answer: Present
    registry: Registry
    notary: Notary
    keys: Mapping[str, str]
    say: Callable[[str], None]
    problems: list[Problem] = field(default_factory=list)

    @property
    def by_digest(self) -> str:
        return f"{self.repository}@{self.answer.digest}"

    def wrong(self, what: str, hint: str = "") -> None:
        self.problems.append(Problem(self.ref, what, hint))


def verify_supply_chain(
    registry: Registry,
    notary: Notary,
    say: Callable[[str], None],
    ref: str,
    *,
    keys: Mapping[str, str],
    kinds: Collection[str] = tuple(KINDS),
) -> None:
    """Say what stands behind an image; `keys` are public ones by name, of which one must have signed it and each of `kinds`.

    Raises VerifyError with all that is missing, is not what was signed, or of which nobody can tell.
    """
    answer = registry.look_up([ref])[ref]
    if isinstance(answer, Unknown):
        raise VerifyError(Problem(ref, f"is unknown: {answer.reason}"))
    if isinstance(answer, Absent):
        raise VerifyError(Problem(ref, "there is no such image in the registry"))
    image = _Image(ref, repository_of(ref), answer, registry, notary, keys, say)
    say(f"{ref} is {answer.digest}")
    _signature(image)
    attached = _attached(image)
    for name in KINDS:
        if name in kinds:
            _document(image, KINDS[name], attached)
    VerifyError.raise_if(image.problems)


def _signature(image: _Image) -> None:
    by = []
    for name, key in image.keys.items():
        signed = image.notary.signed(image.by_digest, key)
        if isinstance(signed, Unknown):
            image.wrong(f"nobody can say whether {name} has signed it: {signed.reason}")
        elif signed:
            by.append(name)
    if by:
        image.say(f"  signed by {', '.join(by)}")
    else:
        image.wrong(f"is not signed by {' or '.join(image.keys) or 'any key: none was named'}")


def _attached(image: _Image) -> Mapping[str, tuple[str, ...]]:
    """Return the digests of what is attached, by its kind."""
    there = image.registry.referrers(image.by_digest)
    if isinstance(there, Unknown):
        image.wrong(f"nobody can say what is attached to it: {there.reason}")
        return {}
    found: dict[str, tuple[str, ...]] = {}
    for each in there:
        found[each.kind] = (*found.get(each.kind, ()), each.digest)
    return found


def _document(image: _Image, kind: AttachmentKind, attached: Mapping[str, tuple[str, ...]]) -> None:
    """Hold one kind of document together: what was attested, by whom, and whether what is attached says the same."""
    signed: dict[str, list[str]] = {}
    predicates = []
    for name, key in image.keys.items():
        statements = image.notary.attested(image.by_digest, kind.predicate_type, key)
        if isinstance(statements, Unknown):
            image.wrong(f"nobody can say whether {name} has attested {kind.name}: {statements.reason}")
            continue
        for text in statements:
            predicate = _predicate(image, text)
            if predicate is not None:
                predicates.append(predicate)
                signed.setdefault(name, []).append(text.decode(errors="replace"))
    if not predicates:
        image.wrong(f"{kind.name} is not attested")
        return
    digests = attached.get(kind.media_type, ())
    same = [digest for digest in digests if _read(image, kind, digest) in predicates]
    if digests and not same:
        image.wrong(f"the {kind.name} that is attached is not what was signed", "believe none of it")
    where = f", attached as {same[0][:19]}" if same else ""
    image.say(f"  {kind.name}: attested by {', '.join(signed)}{where}{_more(image, kind, predicates)}")


def _predicate(image: _Image, text: bytes) -> dict[str, object] | None:
    """Return what a statement says; None, and a problem, where it is one of another image."""
    document = parse_object(text) or {}
    subjects, predicate = document.get("subject"), document.get("predicate")
    digests = {
        each.get("digest", {}).get("sha256") for each in (subjects if isinstance(subjects, list) else ()) if each
    }
    if image.answer.digest.removeprefix("sha256:") not in digests or not isinstance(predicate, dict):
        image.wrong("a statement that is signed is of another image, or is none")
        return None
    return predicate


def _read(image: _Image, kind: AttachmentKind, digest: str) -> dict[str, object] | None:
    try:
        return predicate_of(kind, image.registry.attached(f"{image.repository}@{digest}"))
    except ImagetiersError as error:
        image.wrong(f"the {kind.name} that is attached cannot be read: {error.problems[0].what}")
        return None


def _more(image: _Image, kind: AttachmentKind, predicates: list[dict[str, object]]) -> str:
    """Say what is in it; a provenance is held against the image's own label first."""
    if kind.name != "provenance":
        return f": {component_count(kind.name, predicates[0]):,} components"
    made = [found for predicate in predicates if (found := read_provenance(predicate)) is not None]
    if not made:
        image.wrong("its provenance is not of imagetiers, or its key is not the hash of what it says")
        return ""
    info = image.registry.describe({image.by_digest: image.answer}).get(image.by_digest)
    label = info.key if isinstance(info, ImageInfo) else ""
    mine = next((each for each in made if each.key == label), None)
    if mine is None:
        image.wrong(f"its label says that it is of the key {short(label) or 'of nothing'}, and no provenance does")
        return ""
    return "".join(f"\n    {line}" for line in _lines(mine))


def _lines(made: MadeFrom) -> Iterator[str]:
    yield f"tier {made.tier}, key {short(made.key)}, built by {made.builder}, {made.finished}"
    files = [uri for uri, _ in made.materials if "://" not in uri]
    others = [(uri, digest) for uri, digest in made.materials if "://" in uri]
    for uri, digest in others[:_SHOWN]:
        yield f"from {uri}{f' {digest[:12]}' if digest else ', of which no digest is told'}"
    if len(others) > _SHOWN:
        yield f"and {len(others) - _SHOWN:,} more"
    yield f"from {len(files):,} files"
