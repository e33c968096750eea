"""How a task's work is run: `Act` is given what to do with a session, and returns what doit makes of a failure."""

from __future__ import annotations

from collections.abc import Callable

from doit.exceptions import TaskFailed

from imagetiers.session import Session

__all__ = ["Act"]

Act = Callable[[Callable[[Session], None]], TaskFailed | None]
