"""The report in a real browser, at three widths, light and dark: no error, no request, nothing too wide; axe finds nothing.

It needs Chromium on the PATH, `pip install playwright`, and AXE=…/axe-core/axe.min.js (`npm install axe-core`).
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from imagetiers.report.page.render import page_html
from tests.unit.report.test_page import HOSTILE, page

CHROMIUM, AXE = shutil.which("chromium"), os.environ.get("AXE", "")
WIDER = "document.documentElement.scrollWidth - innerWidth"
OPEN = "document.querySelectorAll('details').forEach(each => each.open = true)"


@pytest.mark.skipif(not CHROMIUM or not AXE, reason="needs chromium on the PATH, playwright, and AXE=.../axe.min.js")
@pytest.mark.parametrize("name", ["pytorch-clean", HOSTILE], ids=["plain", "hostile"])
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [360, 820, 1600])
def test_it_opens_fits_and_axe_finds_nothing(tmp_path: Path, name: str, scheme: str, width: int) -> None:
    playwright = pytest.importorskip("playwright.sync_api")
    file = tmp_path / "report.html"
    file.write_text(page_html(page(name, name=name)))
    wrong: list[str] = []
    with playwright.sync_playwright() as started:
        browser = started.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        # axe is a script, which the page itself lets nobody run.
        context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme, bypass_csp=True)
        opened = context.new_page()
        opened.on("console", lambda message: wrong.append(message.text))
        opened.on("pageerror", lambda error: wrong.append(str(error)))
        opened.on("dialog", lambda dialog: wrong.append(dialog.message))
        opened.on("request", lambda request: wrong.append(request.url) if request.url != file.as_uri() else None)
        opened.goto(file.as_uri())
        opened.evaluate(OPEN)
        assert opened.evaluate(WIDER) <= 0
        opened.evaluate(Path(AXE).read_text())
        assert opened.evaluate("axe.run()")["violations"] == []
        browser.close()
    assert wrong == []
