"""What can go wrong, as values: where, what, and what to do about it.

    ImagetiersError             every failure that a person may meet; holds one or more Problems
    +- PipelineError            the repository's own files are wrong (exit 3, before anything runs)
    |  +- UndeclaredError       the command line sets variables that pipeline.yaml does not declare
    +- EngineError              Docker is missing, down, forbidden or full
    +- BuildError               an image build or a compile failed; names the log
    +- VerifyError              an image was built but is not what it should be
    +- LockedError              somebody else holds a lock for longer than was to be waited
    +- OutputError              a file that was to be written, such as that of --json, cannot be
    +- NotBuiltError            something would have to be built, and was asked not to be (plan --require-built)
    +- RegistryError            the registry, or a git server, refused, did not answer, or holds what it should not
    +- Interrupted              Ctrl-C or SIGTERM; everything that was won is kept
    +- StoreError               the cache's store failed
       +- NotFoundError         no such object
       +- PreconditionError     somebody else changed the object first (HTTP 412)
       +- ForbiddenError        read-only credentials, or none (401, 403)
       +- UnavailableError      the store did not answer, after all retries
       +- CorruptError          what came back is not what was stored
          +- UntrustedError     it is not signed by anybody whom the pipeline trusts

Policy: code below `tasks.py` raises these and never prints, exits or logs a traceback for a user's mistake. Problems
are collected and raised together, never first-only. Their text is stable and held by golden tests.

Exit codes are doit's own, as the table in docs/commands.md has them, which a test holds: 1 for a task that failed, 3 when
nothing ran, 130 interrupted.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

__all__ = [
    "BuildError",
    "CorruptError",
    "EngineError",
    "ForbiddenError",
    "ImagetiersError",
    "Interrupted",
    "LockedError",
    "NotBuiltError",
    "NotFoundError",
    "OutputError",
    "PipelineError",
    "PreconditionError",
    "Problem",
    "RegistryError",
    "SetupError",
    "StoreError",
    "UnavailableError",
    "UndeclaredError",
    "UntrustedError",
    "VerifyError",
    "os_problem",
]


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong: `where` (a file:line:col, a tier, an object name), `what`, and a `hint` what to do."""

    where: str
    what: str
    hint: str = ""

    def __str__(self) -> str:
        text = f"{self.where}: {self.what}" if self.where else self.what
        return f"{text}\n  hint: {self.hint}" if self.hint else text


def os_problem(error: OSError) -> Problem:
    """Return what the system refused, and of what file, in words: most often a disk is full or belongs to somebody else."""
    where = str(error.filename or "")
    what = error.strerror or str(error)
    if error.errno in {errno.ENOSPC, errno.EDQUOT}:
        return Problem(where, what, f"df -h {where or '.'} shows what is full")
    if error.errno in {errno.EACCES, errno.EPERM}:
        return Problem(where, what, _whose(where))
    if error.errno == errno.EROFS:
        return Problem(
            where, what, "it is mounted read-only: check, plan, status, explain and list work here, builds do not"
        )
    if error.errno in {errno.ENOTDIR, errno.EEXIST}:
        return Problem(where, what, "a file is where a folder should be")
    return Problem(where, what)


def _whose(where: str) -> str:
    """Say whose a file is, or the folder that should take it, to a user who may not write it."""
    for path in (Path(where), *Path(where).parents) if where else ():
        try:
            owner = path.lstat().st_uid
        except OSError:
            continue
        whose = f"{path} belongs to user {owner}, and this is user {os.getuid()}"
        return whose if owner != os.getuid() else f"this user owns {path}: look at its mode"
    return f"this is user {os.getuid()}"


class ImagetiersError(Exception):
    """A failure that a person may meet; its text is all its problems, one after the other."""

    exit_code = 1

    def __init__(self, *problems: Problem) -> None:
        super().__init__(*problems)
        self.problems = problems

    def __str__(self) -> str:
        return "\n".join(str(problem) for problem in self.problems)

    @classmethod
    def of(cls, where: str, what: str, hint: str = "") -> ImagetiersError:
        """Make the error of a single problem."""
        return cls(Problem(where, what, hint))

    @classmethod
    def raise_if(cls, problems: Iterable[Problem]) -> None:
        """Raise one error holding all `problems`; do nothing when there are none."""
        found = tuple(problems)
        if found:
            raise cls(*found)


class PipelineError(ImagetiersError):
    """pipeline.yaml, a Dockerfile or a manifest is wrong; nothing has run."""

    exit_code = 3


class UndeclaredError(PipelineError):
    """The command line sets variables that pipeline.yaml does not declare."""


class EngineError(ImagetiersError):
    """Docker is missing, down, not permitted, without buildx, or its disk is full."""


class BuildError(ImagetiersError):
    """An image build or a compile failed; the problem names the full log and the first compiler error."""


class VerifyError(ImagetiersError):
    """An image was built but failed its checks."""


class LockedError(ImagetiersError):
    """Somebody else holds a lock for longer than was to be waited."""


class SetupError(ImagetiersError):
    """What a pipeline needs outside could not be set up or taken down."""


class OutputError(ImagetiersError):
    """A file that was to be written, such as that of --json, cannot be."""


class NotBuiltError(ImagetiersError):
    """Something would have to be built, or nobody can tell whether it would: `doit plan --require-built`."""


class RegistryError(ImagetiersError):
    """The registry, or a git server, refused, did not answer, or holds what it should not. Nothing is rebuilt for that."""


class TagMovedError(RegistryError):
    """A tag that was just moved points elsewhere when it is read back: somebody moves it at the same time."""


class Interrupted(ImagetiersError):  # noqa: N818  the field's word is not an error's
    """Ctrl-C or SIGTERM: containers were stopped, caches kept."""

    exit_code = 130


class StoreError(ImagetiersError):
    """The cache's store failed."""


class NotFoundError(StoreError):
    """There is no such object."""


class PreconditionError(StoreError):
    """The object's generation is not the expected one: somebody else was first (HTTP 412)."""


class ForbiddenError(StoreError):
    """The credentials do not allow this, or there are none (HTTP 401, 403)."""


class UnavailableError(StoreError):
    """The store did not answer or kept failing (timeouts, 408, 429, 5xx), after all retries."""


class CorruptError(StoreError):
    """Content does not match its checksum or format."""


class UntrustedError(CorruptError):
    """An object is not signed, or not by a key that the pipeline trusts, or as something else than what it is read as.

    `generation` is the object's, for whoever may put a right one in its place; 0 where it is not known.
    """

    generation = 0
