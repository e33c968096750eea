"""Tiers of container images from one pipeline.yaml; see ARCHITECTURE.md for the floors of this package."""
