"""What `pip install imagetiers` leaves out because few need it: the extras of pyproject.toml."""

from __future__ import annotations

from importlib.util import find_spec

from imagetiers.errors import Problem

__all__ = ["missing_extra"]


def missing_extra(module: str, extra: str, where: str, what: str) -> Problem | None:
    """Return the problem that `module`, which `what` needs, is not installed, None where it is.

    It is looked for and not imported: that may take long, and the run may never need it.
    """
    try:
        found = find_spec(module) is not None
    except ModuleNotFoundError:  # a package above it
        found = False
    if found:
        return None
    return Problem(where, f"{what} needs {module}, which is not installed", f"pip install 'imagetiers[{extra}]'")
