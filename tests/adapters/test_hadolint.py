"""hadolint as it is, and every way in which it can fail to answer."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from imagetiers.adapters.hadolint import Hadolint
from imagetiers.planning.observed import Unknown

WRONG = b"FROM debian:trixie\nMAINTAINER me\nRUN cd /src && make\n"


def test_what_it_says() -> None:
    linter = Hadolint()

    said = linter.lint([WRONG, b"FROM debian:trixie\n", WRONG], None)

    assert not isinstance(said, Unknown)
    assert [[(lint.code, lint.level, lint.line) for lint in lints] for lints in said] == [
        [("DL4000", "error", 2), ("DL3003", "warning", 3)],
        [],
        [("DL4000", "error", 2), ("DL3003", "warning", 3)],
    ]
    assert "hadolint" in str(linter.version()).lower() or "Linter" in str(linter.version())


def test_its_configuration_counts_and_the_environment_does_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HADOLINT_IGNORE", "DL4000")
    monkeypatch.setenv("HADOLINT_FORMAT", "tty")

    said = Hadolint().lint([WRONG], b"ignored: [DL3003]\n")

    assert not isinstance(said, Unknown)
    assert [lint.code for lint in said[0]] == ["DL4000"]


def test_a_wrong_configuration_is_unknown() -> None:
    said = Hadolint().lint([WRONG], b"ignored: {no\n")

    assert isinstance(said, Unknown)
    assert said.reason.startswith("hadolint")


@pytest.mark.parametrize(
    ("script", "told"),
    [
        ("exit 1", "hadolint ended with exit code 1"),
        ("echo '[]'; exit 3", "hadolint ended with exit code 3"),
        ("echo nothing is wrong", "cannot be read"),
        ("echo '{}'; echo '[{}]'", "cannot be read"),
        ('echo \'[{"code": "DL1"}]\'', "cannot be read"),
    ],
)
def test_an_answer_that_is_none(script: str, told: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = tmp_path / "hadolint"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python3"))

    said = Hadolint().lint([WRONG], None)

    assert isinstance(said, Unknown)
    assert told in said.reason


def test_where_it_is_not_installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python3"))
    monkeypatch.setenv("PATH", str(tmp_path))

    assert Hadolint().version() == Unknown("hadolint is not installed")
    assert Hadolint().lint([WRONG], None) == Unknown("hadolint is not installed")
