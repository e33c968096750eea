"""doit watch: what is an input, what a round says, and what becomes of the container. The engine is a table, files are real."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from pathlib import Path

import pytest

from imagetiers.config.layout import Layout
from imagetiers.errors import LockedError
from imagetiers.operations.image import ensure_image
from imagetiers.operations.watch import Built, watch
from tests.operations.engine import Machine, machine

Step = Callable[[], object]
SOURCE = "images/pytorch-clean/source.txt"


@pytest.fixture
def here(tiny: Layout, tmp_path: Path) -> Machine:
    return machine(tiny, tmp_path / "cache")


class Desk:
    """Somebody who saves: one step each time that the folders are looked at, and Ctrl-C after the last."""

    def __init__(self, here: Machine, *steps: Step) -> None:
        self.here, self.steps = here, list(steps)
        self.asked: list[tuple[str, ...]] = []
        self.folders: list[frozenset[Path]] = []
        self.failing = ""
        self.during: Step | None = None

    def saves(self, folders: Collection[Path]) -> Iterator[bool]:
        self.folders.append(frozenset(folders))
        yield False
        while self.steps:
            self.steps.pop(0)()
            yield True
        raise KeyboardInterrupt

    def build(self, tasks: tuple[str, ...]) -> Built:
        self.asked.append(tasks)
        if self.during is not None:
            self.during()
            self.during = None
        if self.failing:
            return Built((), tasks[0], self.failing)
        session = self.here.session
        before = len(self.here.engine.made)
        self.here.compile()
        for name in ("pytorch-clean", "arr-base"):
            ensure_image(session, session.plan.tiers[name])
        return Built(tuple(made for made in self.here.engine.made[before:] if made.startswith("image:")))

    def watch(self, *names: str, run: tuple[str, ...] = ()) -> list[str]:
        """Return what was said of the tiers."""
        session = self.here.session
        watch(session, names or ("arr-base",), self.build, self.saves, run=run)
        title = ", ".join(names or ("arr-base",))
        return [line.removeprefix(f"{title}: ") for line in self.here.console.lines if line.startswith(title)]


def write(here: Machine, path: str, text: str) -> Step:
    return lambda: (here.layout.root / path).write_text(text)


def test_a_round_for_each_save_of_an_input(here: Machine) -> None:
    root = here.layout.root
    desk = Desk(
        here,
        write(here, SOURCE, "other words\n"),
        write(here, "README.md", "no input\n"),
        write(here, "images/arr-training/of-a-child", "no input of an ancestor\n"),
        write(here, SOURCE, "other words\n"),  # saved as it was
        lambda: (root / "pipeline.yaml").write_text((root / "pipeline.yaml").read_text() + "# a comment\n"),
    )
    said = desk.watch()
    assert len(desk.asked) == 2
    assert said[0].startswith("watches ")
    assert said[1:] == [
        "image:pytorch-clean, image:arr-base in 0 s",
        f"{SOURCE} changed: image:pytorch-clean, image:arr-base in 0 s",
        "no longer watched",
    ]


def test_dockerfiles_and_the_pipeline_are_inputs(here: Machine) -> None:
    root = here.layout.root
    dockerfile = root / "images/arr-base/Dockerfile"
    pipeline = root / "pipeline.yaml"
    desk = Desk(
        here,
        lambda: dockerfile.write_text(dockerfile.read_text() + "ENV A=1\n"),
        lambda: pipeline.write_text(pipeline.read_text().replace("GREETING: hello", "GREETING: goodbye")),
    )
    said = desk.watch()
    assert "images/arr-base/Dockerfile changed: image:arr-base in 0 s" in said
    assert any(
        line.startswith(("pipeline.yaml changed: ", "images/pytorch-clean/Dockerfile changed: ")) for line in said
    )
    assert len(desk.asked) == 3


def test_what_is_saved_during_a_build_is_built_next(here: Machine) -> None:
    desk = Desk(here, lambda: None)
    desk.during = write(here, SOURCE, "saved meanwhile\n")
    desk.watch()
    assert len(desk.asked) == 2


def test_a_failure_says_its_error_and_the_next_save_is_built(here: Machine) -> None:
    desk = Desk(here)
    desk.failing = "image:arr-base: RUN pip install\n  hint: the full log is …"

    def mend() -> None:
        desk.failing = ""
        write(here, SOURCE, "mended\n")()

    desk.steps = [
        lambda: None,
        mend,
    ]
    said = desk.watch()
    assert said[1] == "image:arr-base failed after 0 s\n  image:arr-base: RUN pip install\n    hint: the full log is …"
    assert said[2].startswith(f"{SOURCE} changed: image:")
    assert len(desk.asked) == 2  # what has failed is not tried again before something is saved


def test_a_broken_pipeline_is_said_once_and_built_when_it_is_whole(here: Machine) -> None:
    pipeline = here.layout.root / "pipeline.yaml"
    whole = pipeline.read_text()
    desk = Desk(
        here,
        lambda: pipeline.write_text(whole.replace("parent:", "pparent:")),
        lambda: None,
        lambda: pipeline.write_text(whole),
    )
    said = desk.watch()
    wrong = [line for line in said if line.startswith("the pipeline is wrong, and nothing was built\n  pipeline.yaml:")]
    assert len(wrong) == 1
    assert len(desk.asked) == 2


def test_a_file_in_a_new_folder_is_watched(here: Machine) -> None:
    folder = here.layout.root / "images/pytorch-clean/more"
    manifest = here.layout.root / "images/pytorch-clean/.image-manifest"

    def add() -> None:
        folder.mkdir()
        (folder / "a").write_text("a\n")
        manifest.write_text(manifest.read_text() + "more/\n")

    desk = Desk(here, add)
    desk.watch()
    assert folder not in desk.folders[0]
    assert folder in desk.folders[-1]


def test_the_container_is_of_the_newest_image_and_ends_with_the_watch(here: Machine) -> None:
    ids: list[dict[str, str]] = []

    def see() -> None:
        ids.append({id_: container.image for id_, container in here.engine.started.items()})

    desk = Desk(here, see, write(here, SOURCE, "other words\n"), see, see)
    said = desk.watch(run=("python", "-m", "arr"))
    assert sum(line.endswith("; runs python -m arr") for line in said) == 2
    first, second, third = ids
    assert len(first) == len(second) == 1
    assert first != second
    assert second == third
    assert here.engine.started == {}
    assert set(first) <= set(here.engine.removed)


def test_what_is_saved_before_the_build_has_read_it_is_not_run_too_early(here: Machine) -> None:
    desk = Desk(here, lambda: None)
    desk.during = write(here, SOURCE, "saved meanwhile\n")
    said = desk.watch(run=("arr",))
    assert not any("does not run" in line for line in said)
    assert sum(line.endswith("; runs arr") for line in said) == 1


def test_two_do_not_watch_one_tier(here: Machine) -> None:
    with (
        here.services.locks.hold("watch-arr-base", "watch arr-base"),
        pytest.raises(LockedError, match="watch arr-base: is watched already in this checkout"),
    ):
        Desk(here).watch()
