"""pipeline.lock.yaml as text: pins are changed line by line, so that comments and order stay as people left them. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

__all__ = ["GIT", "IMAGES", "PinChange", "changes", "with_pins"]

IMAGES, GIT = "images", "git"  # the sections
HEADERS = {
    IMAGES: """\
# Outside images, pinned: reference -> digest. Written by `doit lock`; comments stay.
images: {}
""",
    GIT: """\

# Git refs, pinned: repository#ref -> commit. Written by `doit lock`; comments stay.
git: {}
""",
}
_ENTRY = re.compile(r"""(?P<indent> +)(?P<quote>["']?)(?P<ref>\S+?)(?P=quote): +(?P<value>\S+)(?P<rest>.*)""")
_SECTION = re.compile(r"\w+:\s*(\{\s*\})?\s*(#.*)?")


@dataclass(frozen=True, slots=True)
class PinChange:
    """One pin that is not what it was; None = there was or is none."""

    ref: str
    before: str | None
    after: str | None

    def __str__(self) -> str:
        lines = [f"  {self.ref}"]
        lines += [f"    - {self.before}"] if self.before else []
        lines += [f"    + {self.after}"] if self.after else []
        return "\n".join(lines)


def changes(before: Mapping[str, str], after: Mapping[str, str]) -> tuple[PinChange, ...]:
    """Return what differs, by reference."""
    return tuple(
        PinChange(ref, before.get(ref), after.get(ref))
        for ref in sorted({*before, *after})
        if before.get(ref) != after.get(ref)
    )


def with_pins(text: str, pins: Mapping[str, str], section: str = IMAGES) -> str:
    """Return the file with these pins and no others in a section: known ones change in place, new ones stand at the end.

    A file without the section gets it; but without git refs it needs none.
    """
    if not re.search(rf"^{section}:", text, re.MULTILINE):
        if section != IMAGES and not pins:
            return text
        text = text.rstrip("\n") + "\n" if text else ""
        text += HEADERS[section] if text else HEADERS[section].lstrip()
    lines = text.splitlines()
    at = next(number for number, line in enumerate(lines) if line.startswith(f"{section}:"))
    if not _SECTION.fullmatch(lines[at]):  # all of it in one line: {a: b, c: d}
        lines[at] = f"{section}:"
    left = dict(pins)
    body: list[str] = []
    number = _end(lines, at + 1)
    for line in lines[at + 1 : number]:
        entry = _ENTRY.fullmatch(line)
        if entry is None:
            body.append(line)
        elif entry["ref"] in left:
            digest = left.pop(entry["ref"])
            quote = entry["quote"]
            body.append(f"{entry['indent']}{quote}{entry['ref']}{quote}: {digest}{entry['rest']}")
    while body and not body[-1].strip():
        body.pop()
    body += [f"  {ref}: {digest}" for ref, digest in sorted(left.items())]
    title = _SECTION.fullmatch(lines[at])
    comment = title[2] if title else None
    head = f"{section}:" if pins else f"{section}: {{}}"
    lines[at:number] = [head + (f"  {comment}" if comment else ""), *body]
    return "\n".join(lines) + "\n"


def _end(lines: list[str], begin: int) -> int:
    """Return where a section ends: before the comments and empty lines that stand above the next one."""
    end = begin
    while end < len(lines) and (not lines[end] or lines[end].startswith((" ", "#"))):
        end += 1
    while begin < end < len(lines) and not lines[end - 1].startswith(" "):
        end -= 1
    return end
