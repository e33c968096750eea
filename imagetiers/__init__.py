"""Tiers of container images from one pipeline.yaml; see ARCHITECTURE.md for the layers of this package."""

__version__ = "0.2.0"
