"""Each construct of BuildKit's language: what we read, held by a golden file, and what BuildKit itself makes of it."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from imagetiers.errors import PipelineError
from imagetiers.planning.plan import TierPlan
from tests.conftest import Golden
from tests.oracle.corpus import corpus
from tests.oracle.ours import Case, compare, plan_of

HERE = Path(__file__).parent
CORPUS = dict(corpus())
BUILDERS = 4
# Cases that BuildKit itself must be asked about in every run: those that once gave a stale image or were refused wrongly.
WATCHED = [
    "escaped escape at the end",
    "heredoc in single quotes as a whole",
    "heredoc with a dot in its name",
    "heredocs, two files",
    "here-string",
    "shift in shell arithmetic",
    "stream operator",
    "line separator in RUN",
    "form feed in RUN",
    "mount of a name with a blank",
    "mount from, in quotes",
    "mount from, quoted for CSV",
    "TARGETARCH",
    "COPY of a link",
    "COPY through a link",
    "an escaped escape before COPY --from",
    "a heredoc in quotes before COPY --from",
]
EVERY = 9  # and every so many of the others


def test_there_are_enough_cases() -> None:
    assert len(CORPUS) > 300
    assert set(WATCHED) <= set(CORPUS)


def summary(name: str, root: Path) -> str:
    """Say what a case is read as: what is refused and why, or what is sent."""
    try:
        tier = plan_of(Case(CORPUS[name], {}), root)
    except PipelineError as error:
        found = [f"{problem.where.rpartition(':')[2]}: {problem.what}" for problem in error.problems]
        return f"{name}: refused, " + "; ".join(found)
    return f"{name}: {accepted(tier)}"


def accepted(tier: TierPlan) -> str:
    stages = ", ".join(stage for stage, _ in tier.key_document.stages)
    taken = " ".join(file.path for file in tier.files) or "nothing"
    return f"stages {stages}; takes {taken}; sends {hashlib.sha256(tier.dockerfile).hexdigest()[:12]}"


def test_what_is_read(tmp_path: Path, golden: Golden) -> None:
    lines = [summary(name, tmp_path) for name in CORPUS]

    golden("\n".join(lines) + "\n", HERE / "expected.txt")


def disagreements(names: list[str], roots: Callable[[str], Path]) -> list[str]:
    def one(name: str) -> str:
        verdict = compare(Case(CORPUS[name], {}), roots(name))
        if verdict.kind == "laxer":
            return f"{name}: BuildKit refuses it, and we do not: {verdict.why}"
        return f"{name}: {verdict.disagreement}" if verdict.disagreement else ""

    with ThreadPoolExecutor(BUILDERS) as pool:
        return [line for line in pool.map(one, names) if line]


@pytest.mark.engine
@pytest.mark.timeout(300)
@pytest.mark.usefixtures("oracle_base")
def test_buildkit_makes_the_same_of_it(tmp_path_factory: pytest.TempPathFactory) -> None:
    others = [name for name in CORPUS if name not in WATCHED]

    assert disagreements([*WATCHED, *others[::EVERY]], lambda _: tmp_path_factory.mktemp("case")) == []


@pytest.mark.oracle
@pytest.mark.timeout(1800)
@pytest.mark.usefixtures("oracle_base")
def test_buildkit_makes_the_same_of_all(tmp_path_factory: pytest.TempPathFactory) -> None:
    assert disagreements(list(CORPUS), lambda _: tmp_path_factory.mktemp("case")) == []
