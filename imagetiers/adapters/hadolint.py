"""hadolint, a linter of Dockerfiles that is a program of its own: beside this Python, on the PATH, or not there."""

from __future__ import annotations

import json
import shutil
import sys
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from imagetiers.adapters.process import run
from imagetiers.planning.observed import Unknown
from imagetiers.services import Lint

__all__ = ["Hadolint"]

_SECONDS = 120.0
_AT_ONCE = 200  # files of one call
# What steers it past its configuration, by HADOLINT_NAME in the environment.
_STEERING = (
    "DISABLE_IGNORE_PRAGMA", "FAILURE_THRESHOLD", "FORMAT", "IGNORE", "NOFAIL", "OVERRIDE_ERROR", "OVERRIDE_INFO",
    "OVERRIDE_STYLE", "OVERRIDE_WARNING", "REQUIRE_LABELS", "STRICT_LABELS", "TRUSTED_REGISTRIES", "VERBOSE",
)  # fmt: skip
_TOLD = 200  # characters of what it says when it fails


class Hadolint:
    """The real Linter."""

    def version(self) -> str | Unknown:
        """Say which hadolint there is."""
        return self._ask(("--version",))

    def lint(self, texts: Iterable[bytes], config: bytes | None) -> tuple[tuple[Lint, ...], ...] | Unknown:
        """Return what hadolint says of each Dockerfile, under a configuration file's text or none."""
        found: list[tuple[Lint, ...]] = []
        given = list(texts)
        with tempfile.TemporaryDirectory(prefix="imagetiers-hadolint-") as name:
            folder = Path(name)
            settings = folder / "hadolint.yaml"
            settings.write_bytes(config or b"{}\n")
            for begin in range(0, len(given), _AT_ONCE):
                part = given[begin : begin + _AT_ONCE]
                paths = [folder / str(number) for number in range(len(part))]
                for path, text in zip(paths, part, strict=True):
                    path.write_bytes(text)
                options = ("--no-fail", "--no-color", "--format", "json", "--config", str(settings))
                said = self._ask((*options, "--", *map(str, paths)))
                by_path = said if isinstance(said, Unknown) else _read(said)
                if isinstance(by_path, Unknown):
                    return by_path
                found += [tuple(by_path.get(str(path), ())) for path in paths]
        return tuple(found)

    def _ask(self, words: tuple[str, ...]) -> str | Unknown:
        program = _program()
        if program is None:
            return Unknown("hadolint is not installed")
        pieces: list[str] = []
        env = {f"HADOLINT_{name}": None for name in _STEERING}
        try:
            code = run((program, *words), env=env, on_line=pieces.append, seconds=_SECONDS)
        except (OSError, TimeoutError) as error:
            return Unknown(f"hadolint cannot be run: {error}")
        said = "".join(pieces)
        return said if code == 0 else Unknown(f"hadolint ended with exit code {code}: {said.strip()[:_TOLD]}")


def _program() -> str | None:
    beside = Path(sys.executable).parent / "hadolint"
    return str(beside) if beside.exists() else shutil.which("hadolint")


def _read(text: str) -> Mapping[str, list[Lint]] | Unknown:
    """Read hadolint's JSON. What is not of its form is unknown: an empty answer would be taken for a good one."""
    found: dict[str, list[Lint]] = {}
    try:
        entries: Any = json.loads(text)
        for entry in entries:
            lint = Lint(str(entry["code"]), str(entry["level"]), int(entry["line"]), str(entry["message"]))
            found.setdefault(str(entry["file"]), []).append(lint)
    except (ValueError, TypeError, KeyError, RecursionError):
        return Unknown(f"hadolint's answer cannot be read: {text.strip()[:_TOLD]}")
    return found
