"""The plan as a bake file: its text, and the folders that it names."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from imagetiers.building.folders import keep_folders
from imagetiers.config.layout import Layout
from imagetiers.dockerfile.network import with_network
from imagetiers.errors import PipelineError
from imagetiers.inputs.files import InputFile, input_file
from imagetiers.report.bake import PrintedFile, bake_file
from tests.conftest import HERE, Golden, edit
from tests.many.repository import plan_of

FILES = {"one": (input_file("a/run", b"run", executable=True), input_file("link", b"a/run", link=True))}


def whole(folder: Path) -> bool:
    run, link = folder / "a" / "run", folder / "link"
    return (run.read_bytes(), run.stat().st_mode & 0o777, str(link.readlink())) == (b"run", 0o755, "a/run")


def bake_of(layout: Layout) -> PrintedFile:
    return bake_file(plan_of(layout))


def test_what_it_says(tiny: Layout, golden: Golden) -> None:
    bake = bake_of(tiny)
    folders = [
        f"== {target.context.folder}/{file.path} {file.mode}\n{file.content.decode() if file.content else ''}"
        for target in bake.targets
        for file in target.context.files
        if file.path == "Dockerfile"
    ]

    text = json.dumps(bake.document(".imagetiers/bake/base"), indent=2)
    golden("\n".join([text, *folders]), HERE / "golden" / "bake" / "printed.txt")


def test_a_tier_called_as_the_group_that_bake_builds(tiny: Layout) -> None:
    edit(
        "pipeline.yaml",
        "  arr-training: {parent: arr-base}",
        "  arr-training: {parent: default}\n  default: {parent: arr-base}",
    )(tiny)
    (tiny.root / "images/default").mkdir()
    (tiny.root / "images/default/Dockerfile").write_text("ARG PARENT\nFROM ${PARENT}\n")
    (tiny.root / "images/default/.image-manifest").write_text("")

    document = bake_of(tiny).document("x")

    assert document["group"]["default"]["targets"][-2:] == ["default_", "arr-training"]
    assert "target:default_" in document["target"]["arr-training"]["contexts"].values()


def test_what_each_run_may_reach() -> None:
    text = b"FROM a\nRUN --mount=type=cache,target=/x \\\n  one\nRUN --network=host two\nRUN <<END\nRUN three\nEND\n"

    assert with_network(text, "none") == (
        b"FROM a\nRUN --network=none --mount=type=cache,target=/x \\\n  one\nRUN --network=host two\n"
        b"RUN --network=none <<END\nRUN three\nEND\n"
    )


def test_folders_are_kept_made_and_removed(tmp_path: Path) -> None:
    place = tmp_path / "bake" / "base"
    keep_folders(place, FILES | {"two": ()})
    run = place / "one" / "a" / "run"
    assert whole(place / "one")
    inode = run.stat().st_ino
    (place / ".begun-0").mkdir()  # killed

    keep_folders(place, FILES)

    assert {path.name for path in place.iterdir()} == {"one"}
    assert run.stat().st_ino == inode


@pytest.mark.parametrize("spoil", ["edit", "add", "remove", "mode", "link"])
def test_a_folder_that_somebody_has_changed_is_made_anew(spoil: str, tmp_path: Path) -> None:
    keep_folders(tmp_path, FILES)
    run = tmp_path / "one" / "a" / "run"
    if spoil == "edit":
        run.write_bytes(b"ran")
    elif spoil == "add":
        run.with_name("more").write_bytes(b"")
    elif spoil == "remove":
        run.unlink()
    elif spoil == "mode":
        run.chmod(0o644)
    else:
        (tmp_path / "one" / "link").unlink()
        (tmp_path / "one" / "link").symlink_to("a")

    keep_folders(tmp_path, FILES)

    assert {path.name for path in (tmp_path / "one").rglob("*")} == {"a", "run", "link"}
    assert whole(tmp_path / "one")


def test_a_file_that_is_not_as_it_was_hashed_leaves_no_folder(tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.write_bytes(b"now")
    hashed = input_file("large", b"was")
    changed = InputFile("large", hashed.sha256, hashed.size, source=str(source))

    with pytest.raises(PipelineError, match="was changed after doit had read it"):
        keep_folders(tmp_path / "place", {"one": (changed,)})

    assert not (tmp_path / "place" / "one").exists()
