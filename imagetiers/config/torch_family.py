"""Which torchvision and torchaudio belong to which torch: facts as data (the wheels' own requirements on PyPI)."""

from __future__ import annotations

__all__ = ["TORCH_FAMILY"]

TORCH_FAMILY: dict[str, tuple[str, str]] = {
    # torch: (torchvision, torchaudio)
    "2.4.0": ("0.19.0", "2.4.0"),
    "2.4.1": ("0.19.1", "2.4.1"),
    "2.5.0": ("0.20.0", "2.5.0"),
    "2.5.1": ("0.20.1", "2.5.1"),
    "2.6.0": ("0.21.0", "2.6.0"),
    "2.7.0": ("0.22.0", "2.7.0"),
    "2.7.1": ("0.22.1", "2.7.1"),
    "2.8.0": ("0.23.0", "2.8.0"),
    "2.9.0": ("0.24.0", "2.9.0"),
    "2.9.1": ("0.24.1", "2.9.1"),
    "2.10.0": ("0.25.0", "2.10.0"),
    "2.11.0": ("0.26.0", "2.11.0"),
}
"""Releases of torch with the torchvision and torchaudio that were built against them."""
