"""What images are made of, as a scanner has read it: once for each image, on this machine. Safe to delete."""

from __future__ import annotations

import hashlib
from contextlib import suppress
from pathlib import Path

from imagetiers.config.layout import Layout
from imagetiers.state.sealed import seal, unseal

__all__ = ["keep_sbom", "known_sbom"]

_MAGIC = b"imagetiers sbom 1\n"
_MOST = 64  # images; the oldest go


def known_sbom(layout: Layout, image: str) -> bytes | None:
    """Return the SBOM of an image, None where there is none that this user has written whole."""
    return next(unseal(_path(layout, image), _MAGIC, 1), None)


def keep_sbom(layout: Layout, image: str, sbom: bytes) -> None:
    """Keep the SBOM of an image. Where nothing can be written, it is made again."""
    path = _path(layout, image)
    seal(path, _MAGIC, (sbom,))
    with suppress(OSError):
        for old in sorted(path.parent.iterdir(), key=lambda each: each.stat().st_mtime)[:-_MOST]:
            old.unlink()


def _path(layout: Layout, image: str) -> Path:
    return layout.state / "sboms" / hashlib.sha256(image.encode()).hexdigest()[:32]
