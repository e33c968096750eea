"""Trusted objects are signed, and checked when they are read."""
