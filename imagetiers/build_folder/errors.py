"""The one error of this program."""

from __future__ import annotations

__all__ = ["UnusableError"]


class UnusableError(Exception):
    """Why a build folder is not used, or not kept, in one line. It costs time and nothing else."""
