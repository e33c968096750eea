"""A doit `uptodate` that can say why."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any

__all__ = ["SIGNATURE", "UpToDate"]

SIGNATURE = inspect.signature(lambda task, values: None)  # noqa: ARG005
"""What doit calls with a task. It asks each object for that, which takes longer than the answer to the question itself."""

_AFRESH = ("rebuild", "no_cache")  # options by which a task runs that need not


class UpToDate:
    """A doit `uptodate` callable whose repr is the reason: `doit info` shows it.

    `needed` is asked first when the task has the option --if-needed; its '' means that nothing has to be done. `within` asks
    within the time that the task's option --timeout gives. `asked` are options for which the task runs in any case.
    """

    __slots__ = ("_asked", "_check", "_details", "_needed", "_reason", "_rebuild", "_within")

    __signature__ = SIGNATURE

    def __init__(
        self,
        check: Callable[[], str],
        *,
        rebuild: bool = True,
        details: Callable[[str], str] = lambda reason: reason,
        needed: Callable[[], str] | None = None,
        within: Callable[[float | None, Callable[[], str]], str] = lambda _timeout, ask: ask(),
        asked: tuple[str, ...] = (),
    ) -> None:
        self._asked = asked
        self._check = check
        self._details = details
        self._rebuild = rebuild
        self._needed = needed
        self._within = within
        self._reason = ""

    def __call__(self, task: Any, values: Any) -> bool:  # noqa: ARG002  doit goes by these names
        """Decide, and keep the reason."""
        options = task.options or {}
        self._reason = self._within(options.get("timeout"), lambda: self._why(options))
        return not self._reason

    @property
    def reason(self) -> str:
        """Why the task runs, as it was last decided; '' when it need not."""
        return self._reason

    def _why(self, options: Mapping[str, Any]) -> str:
        if self._needed is not None and options.get("if_needed") and not self._needed():
            return ""
        asked = next((name for name in self._asked if options.get(name, "auto") not in {"", "auto"}), "")
        if asked:
            return f"--{asked}"
        afresh = next((name for name in _AFRESH if options.get(name)), "") if self._rebuild else ""
        return f"--{afresh.replace('_', '-')}" if afresh else self._check()

    def __repr__(self) -> str:
        return self._details(self._reason) if self._reason else "up to date"
