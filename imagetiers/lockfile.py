"""pipeline.lock.yaml as text: pins are changed line by line, so that comments and order stay as people left them. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

__all__ = ["PinChange", "changes", "with_pins"]

HEADER = """\
# Outside images, pinned: reference -> digest. Written by `doit lock`; comments stay.
images: {}
"""
_ENTRY = re.compile(r"""(?P<indent> +)(?P<quote>["']?)(?P<ref>\S+?)(?P=quote): +(?P<value>\S+)(?P<rest>.*)""")
_SECTION = re.compile(r"images:\s*(\{\s*\})?\s*(#.*)?")


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


def with_pins(text: str, pins: Mapping[str, str]) -> str:
    """Return the file with these pins and no others: known ones are changed in place, new ones stand at the end."""
    lines = (text if re.search(r"^images:", text, re.MULTILINE) else text + HEADER).splitlines()
    at = next(number for number, line in enumerate(lines) if line.startswith("images:"))
    if not _SECTION.fullmatch(lines[at]):  # all of it in one line: {a: b, c: d}
        lines[at] = "images:"
    left = dict(pins)
    body: list[str] = []
    number = at + 1
    for line in lines[at + 1 :]:
        if line and not line.startswith((" ", "#")):
            break
        number += 1
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
    section = _SECTION.fullmatch(lines[at])
    comment = section[2] if section else None
    head = "images:" if pins else "images: {}"
    lines[at:number] = [head + (f"  {comment}" if comment else ""), *body]
    return "\n".join(lines) + "\n"
