"""What comes between two tasks of a doit."""

from __future__ import annotations

import pytest

from imagetiers.planning.decide import builds_between

ALL = ("compile:a", "image:a", "image:b", "image:c", "verify:a", "verify:b", "verify:c")
PUSHED = ("image:a", "verify:a", "push:a", "image:b", "verify:b", "push:b")
TWO = ("compile:a", "image:a", "compile:b", "image:b", "verify:a", "verify:b")


@pytest.mark.parametrize(
    ("order", "tier", "builds"),
    [
        *((ALL, "a", True), (ALL, "b", True), (ALL, "c", False), (ALL, "d", False)),
        *((PUSHED, "a", False), (PUSHED, "b", False), (("image:a",), "a", False), (("verify:a",), "a", False)),
        *((TWO, "a", False), (TWO, "b", False)),
    ],
)
def test_there_are_builds_and_no_compiles_before_a_tier_is_checked(
    order: tuple[str, ...], tier: str, *, builds: bool
) -> None:
    assert builds_between(order, f"image:{tier}", f"verify:{tier}") is builds
