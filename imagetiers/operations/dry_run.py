"""What setup and teardown have in common: each command is shown before it runs, and the changing ones wait for a yes."""

from __future__ import annotations

import shlex
from collections.abc import Collection
from dataclasses import dataclass

from imagetiers.errors import Problem, SetupError
from imagetiers.planning.infrastructure import Command
from imagetiers.session import Session

__all__ = ["DryRun"]

_INSTALL = {
    "terraform": "https://developer.hashicorp.com/terraform/install",
    "gcloud": "https://cloud.google.com/sdk",
    "docker": "https://docs.docker.com/engine/install",
}


@dataclass(frozen=True, slots=True)
class DryRun:
    """A run of `where` (doit setup, doit teardown). `agreed`: somebody has said yes before."""

    session: Session
    where: str
    agreed: bool

    def say(self, text: str) -> None:
        """Print a line that begins with the command's name."""
        self.session.services.console.line(f"{self.where}: {text}")

    def show(self, command: Command) -> None:
        """Print a command as one would type it."""
        self.session.services.console.line(f"$ {shlex.join(command)}")

    def run(self, command: Command, fine: Collection[int] = (0,)) -> int:
        """Show a command and run it, its lines as they come. Raises SetupError."""
        self.show(command)
        return self._ended(
            command, self.session.services.run_program(command, self.session.services.console.line), fine
        )

    def ask(self, command: Command, fine: Collection[int] = (0,)) -> tuple[int, list[str]]:
        """Run a command that changes nothing; return its exit code and lines. Raises SetupError, with the lines shown."""
        lines: list[str] = []
        code = self.session.services.run_program(command, lines.append)
        if code is not None and code not in fine:
            self.show(command)
            for line in lines:
                self.session.services.console.line(line)
        return self._ended(command, code, fine), lines

    def is_agreed(self) -> bool:
        """Ask whether what was shown shall be done. Where nobody can be asked it is not."""
        if self.agreed:
            return True
        answer = self.session.services.confirm("Shall it be done?")
        if answer is None:
            self.say(f"nothing was changed, for nobody can be asked; {self.where} --yes does it")
        elif not answer:
            self.say("nothing was changed")
        return bool(answer)

    def _ended(self, command: Command, code: int | None, fine: Collection[int]) -> int:
        if code is None:
            raise SetupError(Problem(self.where, f"{command[0]} is not on the PATH", _INSTALL[command[0]]))
        if code not in fine:
            what = f"ended with exit code {code}: {shlex.join(command)}"
            raise SetupError(Problem(self.where, what, "what it says is above"))
        return code
