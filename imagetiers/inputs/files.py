"""One file that a tier is made of, as a value, and what many of them are called together."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from imagetiers.errors import PipelineError, Problem
from imagetiers.repository_file import read_pieces

__all__ = ["InputFile", "input_file", "named_after"]


@dataclass(frozen=True, slots=True)
class InputFile:
    """One input of a tier: its path in the build context, the hash and size of its content, and the x-bit.

    `content` are the bytes that were hashed (of a link its target); None where they are not held, because they are many: then
    they are read again from `source`. The files of a remembered plan have neither, and are not sent.
    """

    path: str
    sha256: str
    size: int
    executable: bool = False
    link: bool = False
    content: bytes | None = None
    source: str = ""

    @property
    def mode(self) -> str:
        """How the key names the kind of file: `644`, `755` or `link`."""
        return "link" if self.link else "755" if self.executable else "644"

    @property
    def target(self) -> str:
        """What a link points to."""
        assert self.content is not None, f"{self.path} is no link"  # noqa: S101
        return self.content.decode()

    def pieces(self) -> Iterator[bytes]:
        """Yield the content, the very bytes that were hashed.

        Raises PipelineError when a file that is read again is not the same any more. That is known only behind its last piece.
        """
        if self.content is not None:
            yield self.content
            return
        digest, left = hashlib.sha256(), self.size
        for piece in read_pieces(self.source, self.path):
            left -= len(piece)
            if left < 0:
                break
            digest.update(piece)
            yield piece
        if left or digest.hexdigest() != self.sha256:
            what = "was changed after doit had read it, so it is no more what the key says"
            raise PipelineError(Problem(self.path, what, "run doit again"))


def input_file(path: str, content: bytes, *, executable: bool = False, link: bool = False) -> InputFile:
    """Return the file of that content."""
    return InputFile(path, hashlib.sha256(content).hexdigest(), len(content), executable, link, content)


def named_after(name: str, files: Iterable[InputFile], digits: int) -> str:
    """Return a folder's name for BuildKit, with so many hex digits of its files' hash: another one for other files.

    Under one name BuildKit takes for unchanged what has the size and the time of what it got the last time, and all our
    times are the same.
    """
    digest = hashlib.sha256()
    for file in files:
        digest.update(f"{file.path}\0{file.mode}\0{file.sha256}\0".encode())
    return f"{name}-{digest.hexdigest()[:digits]}"
