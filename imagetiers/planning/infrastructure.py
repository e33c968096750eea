"""The commands that set up what a pipeline needs outside, and take it down: Terraform on the project's own folder. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

__all__ = [
    "BUILDER_FILE",
    "CHANGES",
    "DOWN",
    "TERRAFORM_FOLDER",
    "UP",
    "Command",
    "Direction",
    "Terraform",
    "builder_image",
]

CHANGES = 2
"""The exit code of `plan_changes` where there is something to do."""

TERRAFORM_FOLDER = "ci/terraform"
"""Where a project has its *.tf files, unless it says otherwise; from the repository's root."""

BUILDER_FILE = "ci/builder/Dockerfile"
"""What the builder image is made of, from the root of imagetiers' checkout."""

Command = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Direction:
    """What a verb does: its name, Terraform's options of a plan for it, and what people call its changes."""

    verb: str
    options: Command
    done: str


UP = Direction("setup", (), "set up")
DOWN = Direction("teardown", ("-destroy",), "taken down")


def builder_image(reference: str) -> tuple[Command, Command]:
    """Return what makes the image that Cloud Build's steps run in, and what publishes it."""
    return (
        ("docker", "build", f"--file={BUILDER_FILE}", f"--tag={reference}", "."),
        ("docker", "push", reference),
    )


@dataclass(frozen=True, slots=True)
class Terraform:
    """Terraform on a folder of `*.tf`; `plan` is the file in which it keeps what it is going to do."""

    folder: Path
    plan: Path

    def _command(self, *words: str) -> Command:
        return ("terraform", f"-chdir={self.folder}", *words)

    def init(self) -> Command:
        """Fetch providers. Nothing outside of the folder is changed."""
        return self._command("init", "-input=false", "-no-color")

    def plan_changes(self, direction: Direction) -> Command:
        """Say what there is to do, and keep it. Nothing is changed."""
        options = ("-input=false", "-no-color", "-detailed-exitcode", f"-out={self.plan}")
        return self._command("plan", *options, *direction.options)

    def apply(self) -> Command:
        """Do what was planned, and nothing else."""
        return self._command("apply", "-input=false", "-no-color", str(self.plan))

    def outputs(self) -> Command:
        """Say what came of it, as JSON."""
        return self._command("output", "-json", "-no-color")
