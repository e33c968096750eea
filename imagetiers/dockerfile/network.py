"""What RUN instructions may reach, said in the Dockerfile itself."""

from __future__ import annotations

from imagetiers.dockerfile.parser import parse_dockerfile

__all__ = ["with_network"]

_RUN = "RUN"


def with_network(dockerfile: bytes, network: str) -> bytes:
    """Return a rendered Dockerfile in which each RUN that does not say what it may reach says `network` (none or host)."""
    lines = dockerfile.split(b"\n")
    for stage in parse_dockerfile(dockerfile, "Dockerfile").stages:
        for instruction in stage.instructions:
            if instruction.keyword == _RUN and instruction.flag("network") is None:
                at = instruction.line - 1
                lines[at] = f"{_RUN} --network={network}".encode() + lines[at].removeprefix(_RUN.encode())
    return b"\n".join(lines)
