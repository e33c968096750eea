"""Thousands of Dockerfiles that nobody wrote, each built as it is and as we would send it: opt-in, `pytest -m oracle`.

    python -m tests.oracle.test_generated --cases 2000 --seed 1

prints the figures that benchmarks/results/buildkit.md keeps, and each disagreement with its Dockerfile.
"""

from __future__ import annotations

import argparse
import collections
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, given, seed, settings

from imagetiers.errors import PipelineError
from imagetiers.planning.plan import TierPlan
from tests.oracle.buildkit import remove_images
from tests.oracle.generate import cases
from tests.oracle.ours import Case, Verdict, compare, plan_of

BUILDERS = 4


def draw(number: int, at: int) -> list[Case]:
    """Return so many cases; the same seed gives the same ones."""
    drawn: list[Case] = []

    @seed(at)
    @settings(
        max_examples=number,
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
        phases=[Phase.generate],
    )
    @given(cases())
    def collect(case: Case) -> None:
        drawn.append(case)

    collect()
    return drawn


def judge(drawn: list[Case]) -> list[tuple[Case, Verdict]]:
    def one(case: Case) -> Verdict:
        with tempfile.TemporaryDirectory() as folder:
            return compare(case, Path(folder))

    with ThreadPoolExecutor(BUILDERS) as pool:
        return list(zip(drawn, pool.map(one, drawn), strict=True))


@pytest.mark.oracle
@pytest.mark.timeout(3600)
@pytest.mark.usefixtures("oracle_base")
def test_generated_cases_agree() -> None:
    judged = judge(draw(500, 1))

    assert [f"{verdict.disagreement}\n{case}" for case, verdict in judged if verdict.disagreement] == []
    assert sum(verdict.kind == "built" for _, verdict in judged) > len(judged) / 3, "too few of them can be built"


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(cases(), cases())
def test_equal_keys_send_equal_bytes(one: Case, other: Case) -> None:
    """What is sent is a function of the key, but for the lines' numbers."""
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        try:
            first = plan_of(one, root / "a")
            edited = plan_of(Case("# a comment\n\n" + one.text, one.args), root / "b")
            second = plan_of(other, root / "c")
        except PipelineError:
            return  # refused: there is no key

    def sent(tier: TierPlan) -> bytes:
        return b"\n".join(line for line in tier.dockerfile.split(b"\n") if line)

    if first.key == edited.key:
        assert sent(first) == sent(edited)
    if first.key == second.key:
        assert sent(first) == sent(second)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cases", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=1)
    given_args = parser.parse_args()
    began = time.monotonic()
    judged = judge(draw(given_args.cases, given_args.seed))
    counts = collections.Counter(verdict.kind for _, verdict in judged)
    for case, verdict in judged:
        if verdict.disagreement or verdict.kind == "laxer":
            print(f"== {verdict.disagreement or verdict.why}\n{case}")
    wrong = sum(bool(verdict.disagreement) for _, verdict in judged)
    print(f"{len(judged)} cases in {time.monotonic() - began:.0f} s: {dict(counts)}, {wrong} disagreements")
    reasons = collections.Counter(
        verdict.why.partition(":")[0][:60] for _, verdict in judged if verdict.kind == "refused"
    )
    for reason, number in reasons.most_common():
        print(f"  {number:4} refused: {reason}")


if __name__ == "__main__":
    try:
        main()
    finally:
        remove_images()
