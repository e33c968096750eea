"""The values of a tier's secrets, read at the last moment: they go to builds and compiles, and to nobody else."""

from __future__ import annotations

import os
from collections.abc import Mapping

from imagetiers.config.layout import PIPELINE_FILE, Layout
from imagetiers.config.model import Secret, Tier, Trust
from imagetiers.errors import PipelineError, Problem
from imagetiers.planning.commands import MAX_SECRET

__all__ = ["Values", "read_secrets"]


class Values(dict[str, bytes]):
    """Secrets by id. Their values are in no text that is made of this."""

    def __repr__(self) -> str:
        return f"Values({', '.join(self)})"


def read_secrets(tier: Tier, layout: Layout, trust: Trust) -> Mapping[str, bytes]:
    """Return the values of a tier's secrets. Raises PipelineError with all that are missing.

    Untrusted builds (pull requests) are given none: a variable that is not set is an empty secret there.
    """
    values, problems = Values(), []
    for secret in tier.secrets:
        value = _read(secret, layout, trust)
        if isinstance(value, Problem):
            problems.append(Problem(f"{PIPELINE_FILE}: tiers.{tier.name}.secrets.{secret.id}", value.what, value.hint))
        else:
            values[secret.id] = value
    PipelineError.raise_if(problems)
    return values


def _read(secret: Secret, layout: Layout, trust: Trust) -> bytes | Problem:
    if secret.env is not None:
        value = os.fsencode(os.environ.get(secret.env, ""))
        if not value and trust.trusted:
            return Problem(
                "", f"the environment variable {secret.env} is not set, or empty", f"export {secret.env}=..."
            )
    else:
        path = layout.root / (secret.file or "")
        try:
            with path.open("rb") as file:
                value = file.read(MAX_SECRET + 1)
        except OSError as error:
            return Problem("", f"the file {path} cannot be read: {error.strerror}", "put the secret's value there")
        if not value:
            return Problem("", f"the file {path} is empty", "put the secret's value there")
    if len(value) > MAX_SECRET:
        return Problem(
            "", f"is longer than {MAX_SECRET:,} bytes", "keep what is large elsewhere, and here the way to it"
        )
    return value
