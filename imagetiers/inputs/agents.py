"""Mounts of type ssh, held against the agents that pipeline.yaml gives: BuildKit silently leaves out what nobody gives."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from imagetiers.config.model import SSH_AGENT, Tier
from imagetiers.dockerfile.model import Dockerfile, Stage
from imagetiers.dockerfile.mounts import SSH, parse_mount
from imagetiers.errors import Problem
from imagetiers.suggestions import did_you_mean

__all__ = ["agent_problems"]

_DEFAULT_ID = "default"  # BuildKit's, of a mount that says none


def agent_problems(tier: Tier, dockerfile: Dockerfile, reached: Iterable[Stage]) -> Iterator[Problem]:
    """Yield what the stages mount of agents that the tier is not given. Raises LexError."""
    given = {secret.id for secret in tier.secrets if secret.ssh is not None}
    for stage in reached:
        for instruction in stage.instructions:
            mounts = (parse_mount(value) for name, value in instruction.flags if name == "mount")
            wanted = dict.fromkeys(mount.id or _DEFAULT_ID for mount in mounts if mount.type.lower() == SSH)
            for id_ in wanted:
                if id_ in given or "$" in id_:
                    continue
                what = f"RUN mounts the SSH agent '{id_}', which tiers.{tier.name}.secrets does not give"
                cure = f"secrets: {{{id_}: {{ssh: {SSH_AGENT}}}}}"
                hint = did_you_mean(id_, given, "it gives") if given else f"write {cure}"
                yield Problem(f"{dockerfile.name}:{instruction.line}", what, hint)
