"""The Dockerfile that BuildKit gets: made of what the key covers, so that nothing else can decide what is built.

Of the stages that are reached it holds the instructions as they stand in the key, each on its own line of the original,
so that BuildKit's messages point to the right place; FROM and `--from=` name images as they are pinned. A stage that is
not reached is replaced by one that cannot be built: if BuildKit needs it all the same, our reading was wrong, and the
build fails instead of giving an image that is not the key's.
"""

from __future__ import annotations

from collections.abc import Callable

from imagetiers.dockerfile.flags import flag_text
from imagetiers.dockerfile.model import SCRATCH, Dockerfile, Instruction, Stage
from imagetiers.dockerfile.mounts import parse_mount, with_origin
from imagetiers.dockerfile.reading import Reading

__all__ = ["render_dockerfile"]

_TRAP = ".imagetiers-this-stage-is-not-part-of-the-key"


def render_dockerfile(
    reading: Reading,
    stages: tuple[Stage, ...],
    images: Callable[[str], str],
    *,
    parent: tuple[str, str] | None = None,
    padded: bool = True,
) -> bytes:
    """Return the Dockerfile of the `stages` that are reached, in file order.

    `images` gives the reference to use for an outside image. `parent` is a name and an
    image: where the image is what a stage is FROM, the argument of that name takes its place. Without `padded` lines do
    not keep their numbers, and so comments leave no trace. Raises Unresolved.
    """
    dockerfile = reading.dockerfile
    page = _Page(padded=padded)
    if dockerfile.syntax is not None:
        page.put(1, f"# syntax={images(dockerfile.syntax)}")
    if dockerfile.escape != "\\":
        page.put(1, f"# escape={dockerfile.escape}")
    if parent is not None:
        page.put(1, f"ARG {parent[0]}")
    for name, value in reading.inherited(stages).items():
        page.put(1, f"ARG {name}={_quoted(value, dockerfile.escape)}")
    reached = {stage.index for stage in stages}
    for stage in dockerfile.stages:
        name = f" AS {stage.name}" if stage.name else ""
        if stage.index not in reached:
            page.put(stage.line, f"FROM {SCRATCH}{name}", f"COPY {_TRAP} /")
            continue
        page.put(stage.line, _from(reading, stage, images, parent) + name)
        for instruction in stage.instructions:
            page.put(instruction.line, *_lines(dockerfile, stage, instruction, images))
    return page.bytes()


class _Page:
    """Lines of text, each put at its own number if that is still free, otherwise on the next line."""

    def __init__(self, *, padded: bool) -> None:
        self._text: list[str] = []
        self._lines = 0
        self._padded = padded

    def put(self, number: int, *texts: str) -> None:
        padding = max(0, number - 1 - self._lines) if self._padded else 0
        self._text.append("\n" * padding)
        self._lines += padding
        for text in texts:
            whole = text if text.endswith("\n") else text + "\n"
            self._text.append(whole)
            self._lines += whole.count("\n")

    def bytes(self) -> bytes:
        return "".join(self._text).encode()


def _from(reading: Reading, stage: Stage, images: Callable[[str], str], parent: tuple[str, str] | None) -> str:
    base, platform = reading.base_of(stage), reading.platform_of(stage)
    flags = f" --platform={platform}" if platform is not None else ""
    if parent is not None and base == parent[1]:
        return f"FROM{flags} ${{{parent[0]}}}"
    inner = base == SCRATCH or reading.references(stage)[0].stage is not None
    return f"FROM{flags} {base if inner else images(base)}"


def _lines(dockerfile: Dockerfile, stage: Stage, instruction: Instruction, images: Callable[[str], str]) -> list[str]:
    def pinned(origin: str, *, numbers: bool) -> str:
        inner = origin == SCRATCH or dockerfile.earlier(stage, origin, numbers=numbers) is not None
        return origin if inner else images(origin)

    words = [instruction.keyword]
    for name, value in instruction.flags:
        text = value
        if name == "from":
            text = pinned(value, numbers=True)
        elif name == "mount" and (origin := parse_mount(value).origin) is not None:
            text = with_origin(value, pinned(origin, numbers=False))
        words.append(flag_text(name, text))
    heredocs = [f"{heredoc.content}{heredoc.name}" for heredoc in instruction.heredocs]
    return [" ".join([*words, instruction.text]), *heredocs]


def _quoted(value: str, escape: str) -> str:
    for char in (escape, '"', "$"):
        value = value.replace(char, escape + char)
    return f'"{value}"'
