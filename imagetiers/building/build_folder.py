"""The program that keeps build folders (`imagetiers.build_folder`), as files for a compile's container, and what it reports."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import imagetiers.build_folder
from imagetiers.documents import parse_object
from imagetiers.inputs.files import InputFile, input_file
from imagetiers.planning.commands import BUILD_FOLDER

__all__ = ["MANIFEST", "FolderReport", "parts_of", "program_files", "read_report"]

MANIFEST = "manifest.json"
_REPORT = "report.json"
_REPORT_MAX = 64 << 10
_PYTHON = f"{BUILD_FOLDER[1:]}.d"
_PROGRAM = f"""\
#!/usr/bin/env python3
import runpy, sys

sys.dont_write_bytecode = True
sys.path[0] = "/{_PYTHON}"
runpy.run_module("imagetiers.build_folder", run_name="__main__", alter_sys=True)
"""


def program_files() -> tuple[InputFile, ...]:
    """Return the program: one that can be run, and the modules that it is made of."""
    folder = Path(imagetiers.build_folder.__file__).parent
    modules = [
        input_file(f"{_PYTHON}/imagetiers/build_folder/{path.name}", path.read_bytes())
        for path in sorted(folder.glob("*.py"))
    ]
    return (
        input_file(BUILD_FOLDER[1:], _PROGRAM.encode(), executable=True),
        input_file(f"{_PYTHON}/imagetiers/__init__.py", b""),
        *modules,
    )


@dataclass(frozen=True, slots=True)
class FolderReport:
    """What a compile says of its build folder: whether the kept one was used, why not, and how much was compiled in it.

    `kept` says what there is for the next compile: a `new` folder, the `same`, or `none`.
    """

    used: bool = False
    kept: str = "none"
    why: str = ""
    changed: int = 0
    made: int = 0
    objects: int = 0

    def __str__(self) -> str:
        if not self.used:
            return f"build folder not used: {self.why}"
        sources = f"{self.changed:,} source{'s' if self.changed != 1 else ''}"
        text = f"build folder used: {sources} changed, {self.made:,} of {self.objects:,} objects compiled"
        return f"{text}; {self.why}" if self.why else text


def read_report(left: Path) -> FolderReport | None:
    """Read what a compile's program has left; None for none, or one that is none of its own."""
    try:
        with (left / _REPORT).open("rb") as file:
            document = parse_object(file.read(_REPORT_MAX)) or {}
    except OSError:
        return None
    texts = [document.get(name) for name in ("kept", "why")]
    counts = [document.get(name) for name in ("changed", "made", "objects")]
    used = document.get("used")
    if (
        type(used) is not bool
        or any(type(one) is not str for one in texts)
        or any(type(one) is not int for one in counts)
    ):
        return None
    return FolderReport(used, *texts, *counts)  # type: ignore[arg-type]


def parts_of(given: Path, left: Path, report: FolderReport) -> dict[str, Path]:
    """Return the files of the folder for the next compile; none where it is the very one that was given.

    Of a folder that is the same, what was made besides may be new.
    """
    found = {path.name: path for path in left.glob("*.tar") if path.is_file() and not path.is_symlink()}
    if report.kept == "new":
        return found | {MANIFEST: left / MANIFEST}
    if report.kept == "none":
        return {}
    results = {path.name for path in given.glob("result-*.tar")}
    if found.keys() == results:
        return {}
    same = {path.name: path for path in given.iterdir() if path.name not in results}
    return same | found
