"""The names of the labels that images and containers carry. Pure."""

from __future__ import annotations

__all__ = ["Label"]


class Label:
    """The names of our image and container labels."""

    KEY = "dev.imagetiers.key"
    TIER = "dev.imagetiers.tier"
    PIPELINE = "dev.imagetiers.pipeline"
    VARIANT = "dev.imagetiers.variant"
    KEY_DOCUMENT = "dev.imagetiers.key-manifest"  # its first name: published images have it
    COMPILE_KEY = "dev.imagetiers.compile-key"
    CHECKOUT = "dev.imagetiers.checkout"
    TRUST = "dev.imagetiers.trust"
    WATCH = "dev.imagetiers.watch"
