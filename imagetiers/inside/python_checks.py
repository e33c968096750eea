"""What the image's own Python says of itself: which modules import, which distributions are there, whether they fit.

    python3 python_checks.py MARK CHECKS.json

A line `MARK result {"check": ..., "problem": ...}` for each check, and `MARK trying NAME` before each, for what ends the program.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import json
import os
import sys
from typing import Any, Dict, Iterator

__all__ = ["main"]

PACKAGING = os.path.join(os.path.dirname(os.path.abspath(__file__)), "packaging")


def check_import(name: str, wanted: str) -> str:
    """Import a module: a missing shared library shows only then. Returns what is wrong."""
    module = importlib.import_module(name)
    if not wanted:
        return ""
    found = getattr(module, "__version__", None)
    if found is None:
        try:
            found = importlib.metadata.version(name.partition(".")[0])
        except importlib.metadata.PackageNotFoundError:
            return "{} does not say which version it is, and was to be {}".format(name, wanted)
    parts = wanted.split(".")
    return "" if str(found).split(".")[: len(parts)] == parts else "{} is {}, not {}".format(name, found, wanted)


def check_version(name: str, wanted: str) -> str:
    """Compare a distribution's version, local part apart: 2.6.0+cu124 is 2.6.0, and 2.6.0.post2 is not."""
    try:
        found = importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return "{} is not installed".format(name)
    same = wanted in (found, found.partition("+")[0])
    return "" if same else "{} is {}, not {}".format(name, found, wanted)


def check_pip(_name: str, _wanted: object) -> str:
    """Say what `pip check` says, without pip."""
    sys.path.insert(0, PACKAGING)
    from packaging.requirements import InvalidRequirement, Requirement  # noqa: PLC0415
    from packaging.utils import canonicalize_name  # noqa: PLC0415

    installed: Dict[str, Any] = {}
    for found in importlib.metadata.distributions():
        name = found.metadata["Name"]
        if name:
            installed.setdefault(canonicalize_name(name), found)

    def wrong() -> Iterator[str]:
        for name, found in sorted(installed.items()):
            for text in found.requires or ():
                try:
                    needs = Requirement(text)
                except InvalidRequirement:
                    yield "{} has a requirement that nobody can read: {}".format(name, text)
                    continue
                if needs.marker is not None and not needs.marker.evaluate({"extra": ""}):
                    continue
                there = installed.get(canonicalize_name(needs.name))
                if there is None:
                    yield "{} requires {}, which is not installed".format(name, needs.name)
                elif not needs.specifier.contains(there.version, prereleases=True):
                    yield "{} requires {}, and {} is installed".format(name, needs, there.version)

    return "; ".join(wrong())


KINDS = {"import": check_import, "version": check_version, "pip check": check_pip}


def main() -> None:
    """Run the checks of the file: a list of [kind, name, what is wanted]."""
    mark, path = sys.argv[1:3]
    del sys.argv[1:]
    sys.path[0] = os.getcwd()  # as `python3 -m` has it, and not this file's folder
    with open(path, encoding="utf-8") as file:
        checks = json.load(file)
    for kind, name, wanted in checks:
        title = "{} {}".format(kind, name).strip()
        print("{} trying {}".format(mark, title), flush=True)  # noqa: T201  it is a program
        try:
            problem = KINDS[kind](name, wanted)
        except BaseException as error:  # noqa: BLE001  a module may even end the program
            problem = "{}: {}".format(type(error).__name__, " ".join(str(error).split()) or "no message")
            problem = "{}: {}".format(name, problem) if name else problem
        said = json.dumps({"check": title, "problem": problem[:2000]})
        print("\n{} result {}".format(mark, said), flush=True)  # noqa: T201


if __name__ == "__main__":
    main()
