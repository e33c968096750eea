"""Make the report's HTML. What people and builds have written is text in it, whatever it holds."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from imagetiers import __version__
from imagetiers.planning.keys import short
from imagetiers.report.amounts import age_text, size_text
from imagetiers.report.page import charts
from imagetiers.report.page.model import BuildState, PageView
from imagetiers.visible import visible

__all__ = ["page_html"]

_MARKS = {
    BuildState.PUBLISHED: "●",
    BuildState.VERIFIED: "◐",
    BuildState.FAILED: "✕",
    BuildState.BUILT: "○",
    BuildState.NONE: "\u2013",
}


def page_html(page: PageView) -> str:
    """Return the file's text: HTML with its style, without scripts, images or links to anywhere else."""
    loader = PackageLoader("imagetiers.report.page", "")
    environment = Environment(
        loader=loader,
        autoescape=True,
        undefined=StrictUndefined,
        finalize=_shown,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    style, _, _ = loader.get_source(environment, "page.css")
    environment.filters |= {
        "size": size_text,
        "age": age_text,
        "day": _day,
        "time": _time,
        "short": short,
        "mark": _MARKS.get,
    }
    return environment.get_template("page.html").render(
        page=page,
        version=__version__,
        charts=charts,
        style=Markup(style),  # noqa: S704  ours
    )


def _shown(value: Any) -> Any:
    """Return what a template prints: a string without what moves cursors or turns letters around."""
    if isinstance(value, str) and not isinstance(value, Markup):
        return visible(value)
    return value


def _time(at: float) -> str:
    return f"{datetime.fromtimestamp(at, UTC):%Y-%m-%d %H:%M}"


def _day(at: float) -> str:
    return f"{datetime.fromtimestamp(at, UTC):%d %b %H:%M}"
