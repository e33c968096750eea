"""Whether files are what was declared, and programs are on the PATH. Pure."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence

from imagetiers.config.checks import Declared, FileCheck
from imagetiers.judging.accounts import accounts, file_text
from imagetiers.judging.outcome import CheckOutcome, by_name, union
from imagetiers.layers.image_config import ImageConfig
from imagetiers.layers.model import FileEntry, FileKind
from imagetiers.layers.tree import FileTree

__all__ = ["DEFAULT_PATH", "judge_files", "judge_programs", "search_path"]

DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


def search_path(config: ImageConfig) -> str:
    """Return the PATH of an image's programs, Docker's own where it sets none."""
    return config.env.get("PATH", DEFAULT_PATH)


def judge_programs(declared: Sequence[Declared], tree: FileTree, config: ImageConfig) -> Iterator[CheckOutcome]:
    """Yield of each program that is asked for by name whether the PATH leads to it."""
    path = search_path(config)
    for name, tier in union(declared, lambda checks: checks.programs).items():
        found = tree.program(name, path) is not None
        yield CheckOutcome(tier, f"command {name}", "" if found else f"{name} is not on the PATH, which is {path}")


def judge_files(declared: Sequence[Declared], tree: FileTree) -> Iterator[CheckOutcome]:
    """Yield of each path that is asked for whether it is what it must be."""
    users, groups = (accounts(file_text(tree, f"/etc/{name}")) for name in ("passwd", "group"))
    for path, (tier, wanted) in by_name(declared, lambda checks: checks.files).items():
        entry = tree.at(path) if wanted.kind == "link" or wanted.target is not None else tree.find(path)
        if entry is None and tree.at(path) is not None:
            problem = f"{path} is a link that leads nowhere"
        elif not wanted.present:
            problem = f"{path} is there: a {entry.kind.value}" if entry is not None else ""
        elif entry is None:
            problem = f"{path} is not there"
        else:
            wrong = [*_metadata(entry, wanted, users, groups), *_content(entry, wanted)]
            problem = f"{path} {'; '.join(wrong)}" if wrong else ""
        yield CheckOutcome(tier, f"file {path}", problem)


def _metadata(
    entry: FileEntry, wanted: FileCheck, users: Mapping[str, int], groups: Mapping[str, int]
) -> Iterator[str]:
    if wanted.kind is not None and entry.kind.value != wanted.kind:
        yield f"is a {entry.kind.value}, not a {wanted.kind}"
    if wanted.mode is not None and entry.mode != wanted.mode:
        yield f"has the mode {entry.mode:04o}, not {wanted.mode:04o}"
    if wanted.target is not None and entry.target != wanted.target:
        yield f"leads to {entry.target}, not to {wanted.target}" if entry.target else "is no link"
    for what, name, found, known in (
        ("owner", wanted.owner, entry.uid, users),
        ("group", wanted.group, entry.gid, groups),
    ):
        if name is None:
            continue
        number = int(name) if name.isdigit() else known.get(name)
        if number is None:
            yield f"should have the {what} {name}, whom the image does not know"
        elif number != found:
            yield f"has the {what} {found}, not {name}" + ("" if name.isdigit() else f" ({number})")


def _content(entry: FileEntry, wanted: FileCheck) -> Iterator[str]:
    if not wanted.reads:
        return
    if entry.kind is not FileKind.FILE:
        yield "is no file whose content could be read"
    elif entry.content is None:
        yield f"could not be read: it is {entry.path} in fact, or larger than 16 MiB ({entry.size:,} bytes)"
    else:
        for text in wanted.contains:
            if text.encode() not in entry.content:
                yield f"does not contain {text!r}"
        found = hashlib.sha256(entry.content).hexdigest()
        if wanted.sha256 is not None and found != wanted.sha256:
            yield f"has the SHA-256 {found}"
