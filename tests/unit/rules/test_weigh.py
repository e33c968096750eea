"""Waivers: what they cover, when they run out, and that one of nothing is noticed."""

from __future__ import annotations

from datetime import date

import pytest

from imagetiers.config.model import Waiver
from imagetiers.report.findings import finding_lines, finding_problems, waiver_lines
from imagetiers.rules.catalogue import RULES
from imagetiers.rules.finding import Finding
from imagetiers.rules.weigh import Weighed, weigh

DAY = date(2026, 11, 21)
ROOT = Finding("root-user", "app", "images/app/Dockerfile", 3, "the image runs as root", is_error=False)
COPIED = Finding("copy-then-remove", "app", "images/app/Dockerfile", 5, "line 6 removes /w again", is_error=True)
LINT = Finding("DL3008", "base", "images/base/Dockerfile", 2, "Pin versions", is_error=False)


def waiver(until: str, rule: str = "root-user", tier: str | None = None) -> Waiver:
    return Waiver("it must be so", until, rule=rule, tier=tier, where="pipeline.yaml:9:5: waivers[0]")


def test_without_waivers_errors_fail_and_warnings_do_not() -> None:
    weighed = weigh([ROOT, COPIED, LINT], (), DAY)

    assert (weighed.errors, weighed.warnings, weighed.passes) == ((COPIED,), (ROOT, LINT), False)
    assert weigh([ROOT], (), DAY).passes


@pytest.mark.parametrize(
    ("until", "waived", "passes", "soon"),
    [
        ("2026-11-20", False, False, False),  # ran out yesterday
        ("2026-11-21", True, True, True),  # its last day
        ("2026-12-04", True, True, True),
        ("2026-12-05", True, True, False),  # 14 days are left
        ("2027-06-30", True, True, False),
    ],
)
def test_the_last_day_counts(until: str, waived: bool, passes: bool, soon: bool) -> None:  # noqa: FBT001
    weighed = weigh([ROOT], [waiver(until)], DAY)

    assert (bool(weighed.waived), weighed.passes, bool(weighed.soon)) == (waived, passes, soon)
    assert not weighed.unused


def test_an_error_can_be_waived_and_is_one_again_afterwards() -> None:
    given = [waiver("2027-01-01", "copy-then-remove", "app")]

    assert weigh([COPIED], given, DAY).passes
    assert weigh([COPIED], given, date(2027, 1, 2)).errors == (COPIED,)


def test_a_waiver_of_another_tier_covers_nothing_and_is_unused() -> None:
    other = waiver("2027-01-01", tier="base")

    assert weigh([ROOT], [other], DAY) == Weighed(warnings=(ROOT,), unused=(other,))


def test_one_that_has_run_out_of_what_is_gone_is_only_unused() -> None:
    over = waiver("2020-01-01")

    assert weigh([], [over], DAY) == Weighed(unused=(over,))


def test_hadolints_codes_are_waived_as_such() -> None:
    assert weigh([LINT], [Waiver("so", "2027-01-01", hadolint="DL3008")], DAY).waived == (LINT,)
    assert weigh([LINT], [Waiver("so", "2027-01-01", rule="DL3008")], DAY).waived == (LINT,)


def test_what_is_said() -> None:
    weighed = weigh(
        [ROOT, COPIED, LINT], [waiver("2026-11-20"), waiver("2026-11-30", "DL3008"), waiver("2027-01-01", "conda")], DAY
    )

    assert [str(problem) for problem in finding_problems(weighed)] == [
        (
            "pipeline.yaml:9:5: waivers[0]: the waiver of root-user ran out on 2026-11-20: it must be so\n"
            "  hint: put right what it is for, or say anew until when it may stay"
        ),
        (
            "images/app/Dockerfile:5: line 6 removes /w again (copy-then-remove)\n"
            f"  costs: {RULES['copy-then-remove'].why}\n"
            f"  hint: {RULES['copy-then-remove'].fix}"
        ),
    ]
    assert [line.replace("pipeline.yaml:9:5: waivers[0]", "HERE") for line in waiver_lines(weighed)] == [
        (
            "HERE: error: the waiver of root-user ran out on 2026-11-20: it must be so\n"
            "  hint: put right what it is for, or say anew until when it may stay"
        ),
        "HERE: warning: the waiver of DL3008 runs out on 2026-11-30",
        "HERE: warning: the waiver of conda matches nothing, in no variant; remove it",
    ]


def test_a_rules_places_are_listed_up_to_a_number() -> None:
    many = [Finding("root-user", f"t{n}", f"images/t{n}/Dockerfile", 1, "no USER", is_error=False) for n in range(1000)]

    lines = list(finding_lines(many, "warning", {}))

    assert len(lines) == 20 + 2 + 1
    assert lines[-1] == "warning: root-user has 980 more places"
