"""One file that a tier is made of, as a value."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

__all__ = ["InputFile", "input_file"]


@dataclass(frozen=True, slots=True)
class InputFile:
    """One input of a tier: its path in the build context, the hash and size of its content, and the x-bit.

    `content` are the bytes that were hashed (of a link its target); None in a remembered plan, which holds none of a file.
    """

    path: str
    sha256: str
    size: int
    executable: bool = False
    link: bool = False
    content: bytes | None = None

    @property
    def mode(self) -> str:
        """How the key names the kind of file: `644`, `755` or `link`."""
        return "link" if self.link else "755" if self.executable else "644"

    @property
    def held(self) -> bytes:
        """The content, of which the caller knows that it is held."""
        assert self.content is not None, f"{self.path} is of a remembered plan"  # noqa: S101
        return self.content


def input_file(path: str, content: bytes, *, executable: bool = False, link: bool = False) -> InputFile:
    """Return the file of that content."""
    return InputFile(path, hashlib.sha256(content).hexdigest(), len(content), executable, link, content)
