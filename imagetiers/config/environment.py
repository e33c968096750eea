"""Names of environment variables in which trusted builds get what they sign with."""

from __future__ import annotations

__all__ = ["COSIGN_KEY", "COSIGN_PASSWORD", "SIGNING_KEY"]

SIGNING_KEY = "IMAGETIERS_SIGNING_KEY"
"""What the cache's objects are signed with."""

COSIGN_KEY = "IMAGETIERS_COSIGN_KEY"
"""What images and their documents are signed with."""

COSIGN_PASSWORD = "COSIGN_PASSWORD"  # noqa: S105  cosign's own name
"""What opens that, where it is not a KMS's."""
