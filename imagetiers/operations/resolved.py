"""plan --resolved: what pipeline.yaml comes to, as YAML."""

from __future__ import annotations

import sys

from imagetiers.config.loader import load_config
from imagetiers.config.resolved import resolved_text
from imagetiers.session import Session

__all__ = ["show_resolved"]


def show_resolved(session: Session) -> None:
    """Write it to stdout. Raises PipelineError where the file is not what it was a moment ago, and is wrong."""
    pipeline = session.plan.pipeline
    config = load_config(session.layout, pipeline.variant, given=pipeline.given)
    sys.stdout.write(resolved_text(config.expanded, pipeline.variant))
