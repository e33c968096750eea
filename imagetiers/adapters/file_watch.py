"""Waiting for saves: the kernel tells of changes in folders (inotify, by watchfiles, the extra `watch`)."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from pathlib import Path

from watchfiles import watch

from imagetiers.errors import ImagetiersError, Problem

__all__ = ["saves"]

_TOGETHER = 400
"""Milliseconds at most in which changes count as one: editors write a file in several steps, git many files."""
_QUIET = 60
"""Milliseconds without a change after which one is told."""
_LOOK = 1_000
"""Milliseconds after which nothing at all is told, too: a folder may have changed before it was watched."""


def saves(folders: Collection[Path]) -> Iterator[bool]:
    """Yield whenever something has changed in these folders, those below them left out, and now and then all the same.

    True: something has changed. What changes while nobody asks is told at the next question. Raises ImagetiersError where the
    system watches no more files.
    """
    try:
        for changes in watch(
            *folders,
            watch_filter=None,  # by what keys are made of, not by names, is told what is an input
            debounce=_TOGETHER,
            step=_QUIET,
            rust_timeout=_LOOK,
            yield_on_timeout=True,
            recursive=False,
        ):
            yield bool(changes)
    except OSError as error:
        hint = "a larger fs.inotify.max_user_watches (sysctl), or WATCHFILES_FORCE_POLLING=true"
        raise ImagetiersError(Problem("watch", f"the folders cannot be watched: {error}", hint)) from error
