"""What images are made of, as a scanner reads it: once for each image, and then kept on this machine. Safe to delete."""

from __future__ import annotations

import hashlib
from contextlib import suppress
from pathlib import Path

from imagetiers.config.layout import Layout
from imagetiers.planning.observed import Unknown
from imagetiers.session import Session
from imagetiers.state.sealed import seal, unseal

__all__ = ["sbom_of"]

_MAGIC = b"imagetiers sbom 1\n"
_MOST = 64  # images; the oldest go


def sbom_of(session: Session, image: str) -> bytes | Unknown:
    """Return the SBOM of an image (its id), as CycloneDX. Where nothing can be kept, it is made again. Raises EngineError."""
    path = _path(session.layout, image)
    known = next(unseal(path, _MAGIC, 1), None)
    if known is not None:
        return known
    made = session.services.scanner.sbom(session.services.engine.save(image))
    if isinstance(made, bytes):
        seal(path, _MAGIC, (made,))
        with suppress(OSError):
            for old in sorted(path.parent.iterdir(), key=lambda each: each.stat().st_mtime)[:-_MOST]:
                old.unlink()
    return made


def _path(layout: Layout, image: str) -> Path:
    return layout.state / "sboms" / hashlib.sha256(image.encode()).hexdigest()[:32]
