#!/usr/bin/env python3
"""Write docs/captures: what a terminal shows of the quickstart, and the report's picture, from a real run of it.

python3 ci/captures.py                    needs Docker and Chromium; compiles for minutes
python3 ci/captures.py --from CHECKOUT    begins with what an earlier run has left in that checkout's .imagetiers
"""

from __future__ import annotations

import argparse
import os
import pty
import shlex
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.terminal_theme import MONOKAI
from rich.text import Text

ROOT = Path(__file__).parents[1]
FOLDER = ROOT / "docs" / "captures"
WIDTH, HEIGHT = 100, 50
VARIANT = "variant=quickstart"


@dataclass(frozen=True, slots=True)
class Capture:
    """A picture: its name, and the words of the doit that it shows."""

    name: str
    words: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Page:
    """A picture of the report as a browser shows it: its name, and whether that is dark."""

    name: str
    dark: bool


# All of it, whatever the engine has already, with nothing in the cache; after an edit once more, with a warm ccache.
FORGET, BUILD = ("forget", "compile", "image", "verify"), ("verify",)
BUILD_FOLDERS = ".imagetiers/cache/objects/folders@"
EDITED, LINE = "images/arr-base/trixie/packages.txt", "python3-psutil\n"
CAPTURES = (
    Capture("status", ("status",)),
    Capture("ccache-stats", ("ccache:stats",)),
    Capture("ccache-ls", ("ccache:ls",)),
)
PAGES = (Page("report", dark=False), Page("report-dark", dark=True))
PAGE_WIDTH, PAGE_HEIGHT = 1200, 1500


def on_a_terminal(words: tuple[str, ...], folder: Path) -> str:
    """Run a doit on a terminal of its own; return what it has written there. Raises CalledProcessError."""
    leader, terminal = pty.openpty()
    env = {**os.environ, "COLUMNS": str(WIDTH), "LINES": str(HEIGHT), "TERM": "xterm-256color"}
    env.pop("NO_COLOR", None)
    argv = [sys.executable, "-m", "doit", VARIANT, *words]
    with subprocess.Popen(
        argv, cwd=folder, env=env, stdin=subprocess.DEVNULL, stdout=terminal, stderr=terminal
    ) as doit:
        os.close(terminal)
        written = b""
        try:
            while piece := os.read(leader, 1 << 16):
                written += piece
        except OSError:  # the other end is closed
            pass
        finally:
            os.close(leader)
    if doit.returncode:
        sys.stderr.write(written.decode(errors="replace"))
        raise subprocess.CalledProcessError(doit.returncode, argv)
    return written.decode(errors="replace").replace("\r\n", "\n")


def picture(capture: Capture, written: str) -> str:
    """Return the SVG of a terminal with the command and what it has written."""
    command = shlex.join(("doit", VARIANT, *capture.words))
    with Path(os.devnull).open("w", encoding="utf-8") as nowhere:
        console = Console(record=True, width=WIDTH, file=nowhere, force_terminal=True, color_system="truecolor")
        console.print(Text(f"$ {command}", style="bold"))
        console.print(Text.from_ansi(written), soft_wrap=True)
        drawn = console.export_svg(title=command, theme=MONOKAI, unique_id=capture.name)
    return without_fonts(drawn, capture.name)


def without_fonts(drawn: str, name: str) -> str:
    """Return an SVG without the fonts that rich lets it load from elsewhere: any monospaced one will do."""
    before, found, rest = drawn.partition("@font-face")
    return before + rest[rest.index(f".{name}-matrix") :] if found else drawn


def photograph(chromium: str, report: Path, page: Page) -> None:
    """Take the picture of the upper part of the report. Raises CalledProcessError."""
    scheme = 0 if page.dark else 1  # as Chromium numbers them
    options = [
        *("--headless=new", "--hide-scrollbars", f"--blink-settings=preferredColorScheme={scheme}"),
        *(f"--window-size={PAGE_WIDTH},{PAGE_HEIGHT}", f"--screenshot={FOLDER / page.name}.png"),
        *(["--no-sandbox"] if os.geteuid() == 0 else []),
    ]
    subprocess.run([chromium, *options, report.as_uri()], check=True, stderr=subprocess.DEVNULL)


def build(checkout: Path) -> None:
    """Make a history that is worth a report: everything cold, then everything warm after an edit. Raises CalledProcessError."""

    def doit(words: tuple[str, ...]) -> None:
        subprocess.run([sys.executable, "-m", "doit", VARIANT, *words], cwd=checkout, check=True)

    doit(FORGET)
    doit(BUILD)
    for kept in checkout.glob(f"{BUILD_FOLDERS}*"):  # or the compilers would not be called
        shutil.rmtree(kept) if kept.is_dir() else kept.unlink()
    with (checkout / EDITED).open("a", encoding="utf-8") as file:
        file.write(LINE)
    doit(FORGET)
    doit(BUILD)


def main() -> None:
    """Build the quickstart from a fresh clone of what is committed, and write all pictures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--from", dest="before", type=Path, metavar="CHECKOUT", help="what an earlier run has left")
    before: Path | None = parser.parse_args().before
    chromium = shutil.which("chromium") or parser.error("needs chromium on the PATH")
    with tempfile.TemporaryDirectory(prefix="imagetiers-captures-", ignore_cleanup_errors=True) as scratch:
        checkout = Path(scratch) / "checkout"
        subprocess.run(["git", "clone", "--quiet", str(ROOT), str(checkout)], check=True)
        if before is not None:
            shutil.copytree(before / ".imagetiers", checkout / ".imagetiers", symlinks=True)
        build(checkout)
        FOLDER.mkdir(exist_ok=True)
        for capture in CAPTURES:
            drawn = picture(capture, on_a_terminal(capture.words, checkout))
            (FOLDER / f"{capture.name}.svg").write_text(drawn, encoding="utf-8")
        report = Path(scratch) / "report.html"
        written = [sys.executable, "-m", "doit", VARIANT, "report", "--out", str(report)]
        subprocess.run(written, cwd=checkout, check=True)
        for page in PAGES:
            photograph(chromium, report, page)


if __name__ == "__main__":
    main()
