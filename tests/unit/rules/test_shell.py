"""The text of a RUN as commands: what the rules see of it, and what they are told they cannot see."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imagetiers.rules.shell import ShellError, command_of, read_script

VALUES = {"D": "/ccache", "X": "1"}


def words(text: str) -> list[tuple[str, ...]]:
    return [command.words for command in read_script(text, VALUES) if command.words]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a 'b c' \"d $X e\" f\\ g", [("a", "b c", "d 1 e", "f g")]),
        ("a $D/x ${D}/y ${Y} $Y ${X:-2}", [("a", "/ccache/x", "/ccache/y", "${Y}", "${Y}", "${X:-2}")]),
        ("a && b || c; d | e & f", [("a",), ("b",), ("c",), ("d",), ("e",), ("f",)]),
        ("if a; then sudo -E b; else c; fi; for i in 1 2; do d; done", [("a",), ("b",), ("c",), ("d",)]),
        ("sh -c 'a && exec b'", [("a",), ("b",)]),
        ("bash -euo pipefail -c 'a'", [("bash", "-euo", "pipefail", "-c", "a")]),
        ("xargs -a /list -n 5 apt-get install -y", [("apt-get", "install", "-y")]),
        ("env -i A=1 B=2 a", [("a",)]),
        ("a $(b) `c`", [("a", "$(…)", "$(…)"), ("b",), ("c",)]),
        ("f() { a; }; f", [("a",), ("f",)]),
        ("case $X in 1) a;; *) b;; esac", [("a",), ("b",)]),
        ("A=1", []),
        ("", []),
    ],
)
def test_commands(text: str, expected: list[tuple[str, ...]]) -> None:
    assert words(text) == expected


def test_files_that_are_written() -> None:
    script = "a > $D/x 2>&1; { b; c; } >> /y; d </z; > /w; e 2> /dev/null"

    assert [command.writes for command in read_script(script, VALUES) if command.writes] == [
        "/ccache/x",
        "/y",
        "/w",
        "/dev/null",
    ]


def test_pipes_and_variables_of_one_command() -> None:
    fetch, shell = read_script("P=1 curl -L u | sudo bash", VALUES)

    assert (fetch.piped_to, dict(fetch.variables), shell.words) == ("bash", {"P": "1"}, ("bash",))


def test_an_exec_form_may_be_a_shells() -> None:
    assert [command.words for command in command_of(("/bin/sh", "-c", "a; b"))] == [("a",), ("b",)]
    assert [command.words for command in command_of(("a", "b c"))] == [("a", "b c")]


@pytest.mark.parametrize("text", ["if a; then b", "a ) b", "a 'b", "a && && b", "(" * 300 + "a" + ")" * 300])
def test_what_is_no_script(text: str) -> None:
    with pytest.raises(ShellError):
        read_script(text, VALUES)


@given(st.text(alphabet="ab '\"$(){}|&;<>`\\\n#!=-x", max_size=60))
def test_any_text_is_read_or_refused(text: str) -> None:
    try:
        read_script(text, VALUES)
    except ShellError as error:
        assert str(error)  # noqa: PT017  either will do
