"""The folders that are named contexts, and whether a tier's contexts and its Dockerfile fit together."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping

from imagetiers.config.layout import Layout
from imagetiers.config.model import Tier
from imagetiers.config.references import repository_of
from imagetiers.dockerfile.expand import LexError
from imagetiers.dockerfile.model import SCRATCH, Dockerfile, Stage
from imagetiers.dockerfile.reading import Reading
from imagetiers.errors import Problem
from imagetiers.inputs.context import tree_of
from imagetiers.inputs.files import InputFile
from imagetiers.inputs.snapshot import read_folder
from imagetiers.repository_file import Reads

__all__ = ["Folders", "folder_problems", "named_context_problems"]

_LIBRARY = "docker.io/library/"  # what a name without a host and a path stands for


class Folders:
    """Reads folders, each once, and adds to `problems` what is wrong with them. `place` says where a value is written."""

    def __init__(self, layout: Layout, reads: Reads, problems: list[Problem], place: Callable[..., str]) -> None:
        self._layout, self._reads, self._problems, self._place = layout, reads, problems, place
        self._known: dict[str, tuple[InputFile, ...] | None] = {}

    def of(self, tier: Tier) -> Mapping[str, tuple[InputFile, ...]]:
        """Return the files of each context of a tier that is a folder."""
        found: dict[str, tuple[InputFile, ...]] = {}
        for name, context in tier.contexts.items():
            if context.path is None:
                continue
            files = self._read(context.path)
            if files:
                found[name] = files
                continue
            where = self._place("tiers", tier.name, "contexts", name, "path")
            missing = f"there is no folder {context.path}/, or a link leads to it"
            what = missing if files is None else f"nothing lies in {context.path}/ that can be taken"
            self._problems.append(Problem(where, what, "correct the path, or remove the context"))
        return found

    def _read(self, path: str) -> tuple[InputFile, ...] | None:
        if path not in self._known:
            before = len(self._problems)
            files = read_folder(self._layout, path, self._reads, self._problems)
            self._known[path] = files if files or len(self._problems) == before else None
        return self._known[path]


def folder_problems(
    reading: Reading, reached: tuple[Stage, ...], folders: Mapping[str, tuple[InputFile, ...]]
) -> Iterator[Problem]:
    """Yield what the stages take from folders and is not there. Raises Unresolved or LexError."""
    for name, files in folders.items():
        tree = tree_of(files)
        for use in reading.context_uses(reached, name):
            where = f"{reading.dockerfile.name}:{use.line}"
            try:
                taken = tree.take(use.source, use.patterns)
            except LexError as error:
                yield Problem(where, f"{use.keyword}: {error}", error.hint)
                continue
            if taken.missing:
                link = f"through a link to {taken.missing[0]}, which is not there"
                what = f"{use.keyword} takes {use.source} from '{name}' {link}"
                yield Problem(where, what, "correct the link, or see what .dockerignore leaves out")
            elif not taken.paths:
                what = f"{use.keyword} takes {use.source} from '{name}', where it does not exist"
                yield Problem(where, what, "correct the path, or see what .dockerignore leaves out")


def named_context_problems(
    tier: Tier, dockerfile: Dockerfile, used: Collection[str], base: str, place: Callable[[str], str]
) -> Iterator[Problem]:
    """Yield what is wrong with a tier's contexts, of which those that are `used` are taken from.

    `base` is what the image stands on. `place` says where a context is written.
    """
    for name, context in tier.contexts.items():
        where = place(name)
        stage = dockerfile.stage(name)
        if stage is not None:
            what = f"has the name of the stage in {dockerfile.name}:{stage.line}, which nobody would reach any more"
            yield Problem(where, what, "rename one of the two")
        elif name == SCRATCH:
            yield Problem(where, f"'{SCRATCH}' is the name of the empty image", "choose another name")
        elif meant := [ref for ref in tier.bases.values() if _short(ref) == name]:
            what = f"BuildKit would take it for the image {meant[0]} of bases, too"
            yield Problem(where, what, "rename the context, or name another tag than latest")
        elif name not in used:
            what = f"nothing that is built takes from '{name}'"
            yield Problem(where, what, f"COPY --from={name} ... in {dockerfile.name}, or remove it")
        elif name == base and context.tier is not None:
            what = "the image stands on this tier, but has not its checks: only a parent's are asked of its children"
            yield Problem(where, what, f"parent: {context.tier}, then ARG PARENT and FROM ${{PARENT}}")


def _short(ref: str) -> str:
    """Return an image's reference as BuildKit looks contexts up by: without what goes without saying."""
    name = ref if "@" in ref else ref.removesuffix(":latest")
    return name.removeprefix(_LIBRARY) if repository_of(name).startswith(_LIBRARY) else name
