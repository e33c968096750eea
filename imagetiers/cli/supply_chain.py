"""`imagetiers verify-supply-chain REF --key FILE`: the check for a machine that has never seen the repository."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from imagetiers.adapters.cosign import Cosign
from imagetiers.adapters.registry import HttpRegistry
from imagetiers.errors import PipelineError, Problem
from imagetiers.operations.verify_supply_chain import verify_supply_chain
from imagetiers.planning.attachments import KINDS
from imagetiers.suggestions import did_you_mean
from imagetiers.visible import visible

__all__ = ["verify_published"]


def verify_published(ref: str, keys: Sequence[str], kinds: str | None) -> None:
    """Print what stands behind an image. Raises VerifyError, and PipelineError where the command line is wrong."""
    wanted = kinds.split(",") if kinds is not None else list(KINDS)
    unknown = [name for name in wanted if name not in KINDS]
    if unknown:
        hint = did_you_mean(unknown[0], KINDS, "kinds")
        raise PipelineError(Problem(f"--kinds {kinds}", f"there is no kind '{unknown[0]}'", hint))
    verify_supply_chain(HttpRegistry(), Cosign(), _say, ref, keys={key: key for key in keys}, kinds=wanted)


def _say(line: str) -> None:
    sys.stdout.write(f"{visible(line)}\n")
