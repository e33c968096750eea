"""What a build prints although it is secret: found wherever it is cut, held back no longer than needed, and lost nowhere."""

from __future__ import annotations

import random
import re

import pytest

from imagetiers.building.masking import Masker

TOKEN = "tok-3f9a61"
KEY = "-----BEGIN KEY-----\nMIIBVQIBADANBgkq\nhkiG9w0BAQEFAASC\n}\n-----END KEY-----\n"


def masked(lines: list[str], *values: str) -> list[str]:
    masker = Masker(value.encode() for value in values)
    return [clear for line in lines for clear in masker.feed(line)] + list(masker.close())


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        ([f"a {TOKEN} b {TOKEN}"], ["a *** b ***"]),
        ([f"{TOKEN}{TOKEN}"], ["***"]),
        (["x tok-3f", "9a61 y"], ["x ***", "*** y"]),
        ([*TOKEN, "after"], ["***"] * len(TOKEN) + ["after"]),
        (["x tok-3f", "", "9a61 y"], ["x ***", "", "*** y"]),
        (["x tok-3f", "another"], ["x tok-3f", "another"]),
        (["x tok-3f", "9a61 tok-", "3f9a61"], ["x ***", "*** ***", "***"]),
        (["tok-tok-3f9a61"], ["tok-***"]),
        ([], []),
    ],
)
def test_a_token(lines: list[str], expected: list[str]) -> None:
    assert masked(lines, TOKEN + "\n") == expected


def test_a_key_of_several_lines() -> None:
    lines = KEY.splitlines()

    assert masked(["begin", *lines, "end"], KEY) == ["begin", *["***"] * 5, "end"]
    assert masked([f"#7 0.2 {line}" for line in lines], KEY) == ["#7 0.2 ***"] * 3 + ["#7 0.2 }", "#7 0.2 ***"]
    assert masked(["}"], KEY) == ["}"]


def test_several_secrets_that_overlap() -> None:
    assert masked(["xabcdefghy"], "abcdef", "defgh", "cdef") == ["x***y"]


def test_without_secrets_or_with_tiny_ones_nothing_happens() -> None:
    assert masked(["[1/3] abc", ""]) == ["[1/3] abc", ""]
    assert masked(["[1/3] abc"], "1", "abc", "", " \n") == ["[1/3] abc"]


def test_a_line_is_held_back_only_while_it_may_be_a_secret() -> None:
    masker = Masker([TOKEN.encode()])

    assert list(masker.feed("clear")) == ["clear"]
    assert list(masker.feed("ends in tok")) == []
    assert list(masker.feed("s and goes on")) == ["ends in tok", "s and goes on"]
    assert list(masker.feed("t")) == []
    held = 0
    while not list(masker.feed("")):
        held += 1
        assert held <= len(TOKEN), "empty lines do not pile up"


def test_whatever_the_lines_no_secret_is_left_and_nothing_else_is_lost() -> None:
    dice = random.Random(7)
    for _ in range(2000):
        secret = "".join(dice.choices("ab", k=dice.randint(4, 7)))
        text = "".join(dice.choices(["a", "b", "c", "\n", secret], k=dice.randint(1, 25)))
        lines = re.sub("\n+", "\n", text).split("\n")

        given = masked(lines, secret)

        assert len(given) == len(lines)
        joined = "".join(lines)
        keep = [True] * len(joined)
        for at in range(len(joined)):
            if joined.startswith(secret, at):
                keep[at : at + len(secret)] = [False] * len(secret)
        position, wanted = 0, []
        for line in lines:
            shown = "".join(c if keep[position + i] else "*" for i, c in enumerate(line))
            wanted.append(re.sub(r"\*+", "***", shown))
            position += len(line)
        assert given == wanted
