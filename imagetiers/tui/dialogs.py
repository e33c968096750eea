"""What is asked before something runs, and before something that runs is left."""

from __future__ import annotations

from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import BindingType
from textual.containers import Vertical
from textual.screen import ModalScreen
from textual.widgets import Label, Static

from imagetiers.tui.command import DoitCommand

__all__ = ["Ask", "Leave"]


class Ask(ModalScreen[bool]):
    """Shows the exact command, and asks whether it shall run."""

    BINDINGS: ClassVar[list[BindingType]] = [
        ("enter", "answer(True)", "run it"),
        ("escape,n,q", "answer(False)", "do not"),
    ]

    def __init__(self, command: DoitCommand) -> None:
        super().__init__()
        self._command = command

    def compose(self) -> ComposeResult:
        """Lay it out."""
        with Vertical(classes="dialog"):
            yield Label("Run this?")
            yield Static(f"  {self._command}", classes="command", markup=False)
            yield Label("Enter runs it, Escape does not.", classes="dim")

    def action_answer(self, answer: bool) -> None:  # noqa: FBT001  as textual passes it
        """Close with the answer."""
        self.dismiss(answer)


class Leave(ModalScreen[str]):
    """A command runs, and somebody wants to leave: "wait" for it, "stop" it as Ctrl-C does, or "stay"."""

    BINDINGS: ClassVar[list[BindingType]] = [
        ("w", "answer('wait')", "wait for it, then quit"),
        ("s", "answer('stop')", "stop it, then quit"),
        ("escape", "answer('stay')", "stay"),
    ]

    def __init__(self, command: DoitCommand) -> None:
        super().__init__()
        self._command = command

    def compose(self) -> ComposeResult:
        """Lay it out."""
        with Vertical(classes="dialog"):
            yield Label("This still runs:")
            yield Static(f"  {self._command}", classes="command", markup=False)
            yield Label("w  wait for it, then quit\ns  stop it gracefully, as Ctrl-C does, then quit\nEscape  stay")

    def action_answer(self, answer: str) -> None:
        """Close with the answer."""
        self.dismiss(answer)
