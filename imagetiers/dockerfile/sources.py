"""What COPY and ADD name as their source: a path in the context, a URL, or a git repository.

Source: moby/buildkit, util/gitutil and frontend/dockerfile/dfgitutil.
"""

from __future__ import annotations

import re
from enum import Enum

from imagetiers.dockerfile.expand import LexError

__all__ = ["SourceKind", "is_fixed_git", "kind_of"]

_PROTOCOL = re.compile(r"([a-zA-Z0-9]+)://")
_SCP = re.compile(r"[a-zA-Z0-9_-]+@[a-zA-Z0-9.-]+:.*", re.DOTALL)
_GIT_SCHEMES = frozenset({"git", "ssh"})
_WEB_SCHEMES = frozenset({"http", "https"})
_COMMIT = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")


class SourceKind(Enum):
    """Where the bytes of a source come from."""

    PATH = "path"
    URL = "url"
    GIT = "git"


def kind_of(source: str) -> SourceKind:
    """Say what a source is, variables replaced. Raises LexError where BuildKit's versions differ."""
    protocol = _PROTOCOL.match(source)
    if protocol is None:
        if _SCP.fullmatch(source):
            return SourceKind.GIT
        path = source.partition("#")[0].partition("?")[0]
        if "/" in path and path.endswith(".git") and not source.startswith(("./", "../", "/", "github.com/")):
            what = f"'{source}' is a git repository to some BuildKit versions and a path to others"
            raise LexError(what, f"write https://{source} or ./{source}")
        return SourceKind.PATH
    scheme = protocol[1]
    if scheme.lower() in _GIT_SCHEMES:
        return SourceKind.GIT
    if scheme not in _WEB_SCHEMES:
        raise LexError(f"'{source}' has the scheme '{scheme}', which is neither http, https, ssh nor git")
    path = source.partition("#")[0].partition("?")[0]
    return SourceKind.GIT if path.endswith(".git") else SourceKind.URL


def is_fixed_git(source: str) -> bool:
    """Say whether a repository is named by a whole commit, so that it is always the same."""
    address, _, fragment = source.partition("#")
    return "?" not in address and _COMMIT.fullmatch(fragment.partition(":")[0]) is not None
