"""An edit that leaves a key as it is leaves the image as it is: with the real engine, and the Dockerfile as it was written.

    python -m tests.oracle.test_edits --edits 1000 --seed 1

prints the figures that benchmarks/results/buildkit.md keeps, and each violation. What a key says is held against what
BuildKit makes of the folder by itself (tests/oracle/project.py), so that nothing hangs on our own reading of it.
"""

from __future__ import annotations

import argparse
import collections
import random
import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from imagetiers.errors import PipelineError
from tests.oracle.buildkit import Outcome, bases, remove_images
from tests.oracle.corpus import corpus
from tests.oracle.edits import EDITS, UNLISTED, UnfitError, with_unused_stage
from tests.oracle.project import File, Project, images_of, keys_of
from tests.oracle.subjects import subjects
from tests.oracle.test_generated import BUILDERS, draw
from tests.registry.server import RegistryServer

KINDS = ("the same", "needless", "rebuilt", "failed", "refused", "laxer", "VIOLATION")
# What BuildKit says of a stage that is not needed and whose argument has no value: one Dockerfile may serve several variants,
# so that is no mistake here.
_NO_VALUE = "should not be blank"


@dataclass(frozen=True)
class Edited:
    """A project, what it was before one edit, and the kind of that edit."""

    kind: str
    before: Project
    after: Project


@dataclass(frozen=True)
class Result:
    """What came of an edit, of each of the project's keys: one of KINDS, and how the images differ."""

    edited: Edited
    verdict: str
    how: str = ""

    def __str__(self) -> str:
        return f"{self.edited.kind}: {self.how}\n--- before\n{self.edited.before}\n--- after\n{self.edited.after}"


def edits_of(project: Project, kinds: Iterable[str], chance: random.Random) -> Iterator[Edited]:
    for kind in kinds:
        try:
            after = EDITS[kind](project, chance)
        except UnfitError:
            continue
        if after != project:
            yield Edited(kind, project, after)


class Judge:
    """Builds each project once, and compares."""

    def __init__(self) -> None:
        self._built: dict[int, tuple[Project, Mapping[str, Outcome]]] = {}

    def good(self, projects: Iterable[Project]) -> list[Project]:
        """Return the projects that we accept and BuildKit builds: those that have a key and an image to begin with."""
        with ThreadPoolExecutor(BUILDERS) as pool:
            return [project for project in pool.map(self._begin, projects) if project is not None]

    def _begin(self, project: Project) -> Project | None:
        if not accepted(project):
            return None
        images = images_of(project)
        self._built[id(project)] = (project, images)
        return project if all(image.built for image in images.values()) else None

    def results(self, edited: Iterable[Edited]) -> Iterator[Result]:
        with ThreadPoolExecutor(BUILDERS) as pool:
            for results in pool.map(self._judge, edited):
                yield from results

    def _judge(self, edited: Edited) -> list[Result]:
        before = keys_of(edited.before)
        try:
            after = keys_of(edited.after)
        except PipelineError as error:
            return [Result(edited, "refused", error.problems[0].what)]
        _, old = self._built[id(edited.before)]
        new = images_of(edited.after)
        return [
            _verdict(edited, name, old[name], new[name], same_key=before[name] == key) for name, key in after.items()
        ]


def _verdict(edited: Edited, name: str, old: Outcome, new: Outcome, *, same_key: bool) -> Result:
    if not new.built:
        verdict = "failed" if not same_key else "laxer" if _NO_VALUE in new.error else "VIOLATION"
        return Result(edited, verdict, f"{name}: cannot be built: {new.error}")
    different = old.differs(new)
    if different:
        how = "; ".join(f"{path}: {old.shown(path)} -> {new.shown(path)}" for path in different[:5])
        return Result(edited, "VIOLATION" if same_key else "rebuilt", f"{name}: {how}")
    return Result(edited, "the same" if same_key else "needless", name)


def accepted(project: Project) -> bool:
    try:
        keys_of(project)
    except PipelineError:
        return False
    return True


def fixed(projects: Iterable[Project]) -> list[Edited]:
    """Return the edits of CI, the same ones in every run: of each project two in three of the kinds."""
    chance = random.Random("edits")
    return [
        edited
        for number, project in enumerate(projects)
        for edited in edits_of(project, [kind for at, kind in enumerate(EDITS) if (at + number) % 3], chance)
    ]


@pytest.fixture(scope="session")
def moved_base(oracle_base: None, registry_server: RegistryServer) -> tuple[str, tuple[str, ...]]:  # noqa: ARG001  first
    return bases(registry_server)


def violations(results: Iterable[Result]) -> list[str]:
    return [str(result) for result in results if result.verdict == "VIOLATION"]


def test_every_kind_of_edit_is_made() -> None:
    digests = tuple(f"sha256:{number:064}" for number in range(3))
    made = collections.Counter(edited.kind for edited in fixed(subjects("127.0.0.1:5000/base:1", digests).values()))

    assert set(made) == set(EDITS)
    assert sum(made.values()) > 70


@pytest.mark.engine
@pytest.mark.timeout(300)
def test_an_unchanged_key_means_an_unchanged_image(moved_base: tuple[str, tuple[str, ...]]) -> None:
    judge = Judge()
    every = list(subjects(*moved_base).values())
    assert judge.good(every) == every

    results = list(judge.results(fixed(every)))

    assert violations(results) == []
    assert {result.verdict for result in results} >= {"the same", "rebuilt"}


def others(number: int, at: int) -> list[Project]:
    """Return projects of the corpus, and generated ones; some with files and stages that play no part."""
    chance = random.Random(at)
    texts = [text for _, text in corpus()]
    chance.shuffle(texts)
    found = [Project(text) for text in texts[: number // 2]]
    found += [Project(case.text, case.args) for case in draw(max(number - len(found), 1), at)]
    return [_dressed(project, chance) for project in found]


def _dressed(project: Project, chance: random.Random) -> Project:
    if chance.randrange(3) == 0:
        try:
            project = with_unused_stage(project)
        except UnfitError:
            return project
    if chance.randrange(3) == 0:
        ignored = (UNLISTED,) if chance.randrange(2) else ()
        manifest = project.manifest if ignored else "".join(f"{name}\n" for name in _as_patterns(project))
        aside = {**project.files, UNLISTED: File(b"notes\n")}
        project = replace(project, files=aside, ignored=ignored, manifest=manifest)
    return project


def _as_patterns(project: Project) -> Iterator[str]:
    yield from sorted({name.split("/")[0].replace("[", "[[]").replace("\\", "?") for name in project.files})


def run(number: int, at: int, base: tuple[str, tuple[str, ...]]) -> Iterator[Result]:
    """Make about so many edits: half of them to our own projects, half spread over many others that can be built."""
    judge = Judge()
    own = judge.good(subjects(*base).values())
    good = judge.good(others(number // 3, at))
    chance = random.Random(at)
    edited: list[Edited] = []
    while len(edited) < number:
        edited += edits_of(chance.choice(own), chance.sample(list(EDITS), 3), chance)
        edited += edits_of(chance.choice(good), chance.sample(list(EDITS), 3), chance)
    yield from judge.results(edited[:number])


@pytest.mark.oracle
@pytest.mark.timeout(3600)
def test_unchanged_keys_mean_unchanged_images(moved_base: tuple[str, tuple[str, ...]]) -> None:
    results = list(run(600, 1, moved_base))

    assert violations(results) == []
    built = sum(result.verdict in {"the same", "needless", "rebuilt"} for result in results)
    assert built > len(results) / 3, "too few of them can be built"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--edits", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    began = time.monotonic()
    table: dict[str, collections.Counter[str]] = {kind: collections.Counter() for kind in EDITS}
    needless: list[Result] = []
    with tempfile.TemporaryDirectory() as folder:
        server = RegistryServer(Path(folder))
        results = list(run(given.edits, given.seed, bases(server)))
        server.stop()
    for result in results:
        table[result.edited.kind][result.verdict] += 1
        if result.verdict == "VIOLATION":
            print(f"== {result}\n", flush=True)
        if result.verdict == "needless":
            needless.append(result)
    for result in needless[:30]:
        print(f"-- needless {result}")
    print(f"{'edit of':22}" + "".join(f"{kind:>10}" for kind in KINDS))
    for kind, counts in [*table.items(), ("all", sum(table.values(), collections.Counter()))]:
        print(f"{kind:22}" + "".join(f"{counts[verdict]:10}" for verdict in KINDS))
    print(f"{time.monotonic() - began:.0f} s")


if __name__ == "__main__":
    try:
        main()
    finally:
        remove_images()
