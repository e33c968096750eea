"""The values of a tier's secrets, read at the last moment: they go to builds and compiles, and to nobody else.

An SSH agent has no value: BuildKit asks it to sign, from within image builds.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from imagetiers.config.layout import PIPELINE_FILE, Layout
from imagetiers.config.model import SSH_AGENT, Secret, Tier, Trust
from imagetiers.errors import PipelineError, Problem
from imagetiers.planning.commands import MAX_SECRET

__all__ = ["Values", "given_secrets", "known_secrets", "read_secrets"]

_AGENT = "SSH_AUTH_SOCK"


class Values(dict[str, bytes]):
    """Secrets by id. Their values are in no text that is made of this."""

    def __repr__(self) -> str:
        return f"Values({', '.join(self)})"


def read_secrets(tier: Tier, layout: Layout, trust: Trust) -> Mapping[str, bytes]:
    """Return the values of a tier's secrets. Raises PipelineError with all that are missing, SSH agents too.

    Untrusted builds (pull requests) are given none: a variable that is not set is an empty secret there.
    """
    values, problems = Values(), []
    for secret in tier.secrets:
        value = _read(secret, layout, trust) if secret.ssh is None else _agent_problem(secret.ssh, layout, trust)
        if value is None:
            continue
        if isinstance(value, Problem):
            problems.append(Problem(f"{PIPELINE_FILE}: tiers.{tier.name}.secrets.{secret.id}", value.what, value.hint))
        else:
            values[secret.id] = value
    PipelineError.raise_if(problems)
    return values


def known_secrets(tiers: Iterable[Tier], layout: Layout, trust: Trust) -> Iterator[bytes]:
    """Yield the values of all secrets of these tiers that are here: what must not be seen, whoever prints it."""
    for tier in tiers:
        for secret in tier.secrets:
            value = _read(secret, layout, trust) if secret.ssh is None else None
            if isinstance(value, bytes) and value:
                yield value


def given_secrets(tier: Tier, layout: Layout, trust: Trust) -> tuple[Secret, ...]:
    """Return those of a tier's secrets that image builds get: untrusted ones no SSH agent that is not there."""
    return tuple(
        secret
        for secret in tier.secrets
        if secret.ssh is None or trust.trusted or _agent_problem(secret.ssh, layout, Trust()) is None
    )


def _agent_problem(ssh: str, layout: Layout, trust: Trust) -> Problem | None:
    """Say why there is no agent, or no key; None for an untrusted build, which then has none."""
    if not trust.trusted:
        return None
    if ssh != SSH_AGENT:
        path = layout.root / ssh
        try:
            kind = path.stat().st_mode
            if stat.S_ISDIR(kind):
                return Problem("", f"{path} is a folder", "name a private key, or an agent's socket")
            if not stat.S_ISSOCK(kind):
                path.open("rb").close()
        except OSError as error:
            return Problem(
                "", f"{path} cannot be read: {error.strerror}", "put the private key there, or an agent's socket"
            )
        return None
    place = os.environ.get(_AGENT, "")
    if not place:
        return Problem("", f"there is no SSH agent: {_AGENT} is not set", 'eval "$(ssh-agent)" && ssh-add')
    try:
        there = stat.S_ISSOCK(Path(place).stat().st_mode)
    except OSError:
        there = False
    return None if there else Problem("", f"{_AGENT} names no socket: {place}", 'eval "$(ssh-agent)" && ssh-add')


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
