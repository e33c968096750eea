"""The pipelines that doit itself is shown need a checkout, as the doors' tests have it."""

from tests.tasks.conftest import offline

__all__ = ["offline"]
