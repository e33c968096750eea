"""Tiers that make files and no image: they lie where they go, are made once for a whole cache, and nobody's are lost."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from imagetiers.stores.directory import DirectoryStore
from tests.engine.conftest import Checkout, docker, make_checkout, remove_all

PIPELINE = """\
version: 1
name: outputs
cache: CACHE
tiers:
  base: {bases: {BASE: "debian:trixie-slim"}}
  report: {parent: base, output: {type: local, dest: out/report}}
  packed: {parent: base, output: {type: tar, dest: out/report.tar}}
"""
DOCKERFILE = """\
ARG PARENT
FROM ${PARENT} AS made
COPY text /in/text
RUN mkdir -p /out/deep && tr a-z A-Z </in/text >/out/TEXT && ln -s ../TEXT /out/deep/link \\
 && printf '#!/bin/sh\\n' >/out/run && chmod 700 /out/run && date +%N >/out/when

FROM scratch
COPY --from=made /out/ /
"""


@pytest.fixture
def making(tmp_path: Path) -> Iterator[Checkout]:
    source = tmp_path / "source"
    for tier in ("base", "report", "packed"):
        folder = source / "images" / tier
        folder.mkdir(parents=True)
        (folder / "Dockerfile").write_text("ARG BASE\nFROM ${BASE}\n" if tier == "base" else DOCKERFILE)
        (folder / ".image-manifest").write_text("" if tier == "base" else "text\n")
        if tier != "base":
            (folder / "text").write_text("one\n")
    (source / "pipeline.yaml").write_text(PIPELINE.replace("CACHE", str(tmp_path / "cache")))
    made = make_checkout(source, tmp_path / "checkout")
    yield made
    remove_all(made)


def test_files_are_made_put_and_kept(making: Checkout, tmp_path: Path) -> None:
    first = making.doit()
    assert first.code == 0, first.text
    assert first.executed == ["image:base", "image:report", "image:packed", "verify:base"], (
        "nothing else is there for files"
    )
    out = making.root / "out"
    report = out / "report"
    assert (report / "TEXT").read_text() == "ONE\n"
    assert (report / "deep" / "link").read_text() == "ONE\n"
    assert [(report / name).stat().st_mode & 0o777 for name in ("TEXT", "run")] == [0o644, 0o755]
    with tarfile.open(out / "report.tar") as tar:
        assert {"TEXT", "deep/link", "run"} <= set(tar.getnames())
    assert not any(f"{making.name}/report" in ref or "packed" in ref for ref in making.refs())
    assert sorted(path.name for path in out.iterdir()) == ["report", "report.tar"]
    assert not list((making.root / ".imagetiers" / "made").iterdir())
    assert making.doit().executed == []
    status = making.doit("status")
    assert re.search(r"report +local", status.out), status.out

    making.edit("images/report/text", "one", "two")
    planned = making.doit("plan")
    assert re.search(r"report +build .*text edited", planned.out), planned.out
    assert making.doit("explain", "report").out.count("images/report/text:1") >= 1
    assert making.doit().executed == ["image:report"]
    assert (report / "TEXT").read_text() == "TWO\n"

    when = (report / "when").read_text()
    shutil.rmtree(report)
    gone = making.doit()
    assert "is in the cache" in gone.out, gone.text
    assert (report / "when").read_text() == when

    (report / "TEXT").write_text("mine\n")
    assert "out/report/TEXT was changed since" in making.doit("plan").out
    assert making.doit().executed == ["image:report"]
    assert (report / "TEXT").read_text() == "TWO\n"

    other = make_checkout(making.root, tmp_path / "other", making.name)
    shutil.rmtree(other.root / "out")
    docker_before = docker("system", "df", "--format", "{{.Type}} {{.TotalCount}}")
    fresh = other.doit("image:report")
    assert fresh.code == 0, fresh.text
    assert "is in the cache" in fresh.out
    assert (other.root / "out" / "report" / "when").read_text() == when, "made once, for all who share the cache"
    assert docker("system", "df", "--format", "{{.Type}} {{.TotalCount}}") == docker_before or "built" not in fresh.out


def test_the_table_at_the_end_comes_when_all_is_made(making: Checkout) -> None:
    """Beside another worker, which still makes files when all images are verified, but on a very busy machine."""
    making.edit("images/report/Dockerfile", "RUN mkdir", "RUN sleep 9 && mkdir")
    run = making.doit("-n", "2")
    assert run.code == 0, run.text
    lines = run.out.splitlines()
    made = next(number for number, line in enumerate(lines) if "out/report is what" in line)
    verified = next(number for number, line in enumerate(lines) if line.startswith("verify:base: "))
    assert max(verified, made) < next(number for number, line in enumerate(lines) if "status" in line)
    assert re.search(r"report +local", run.out)

    making.edit("images/report/Dockerfile", "RUN sleep 9", "RUN false")
    failed = making.doit("--continue")
    assert failed.code == 2, "a group of what has failed was not done"
    assert "_summary" not in failed.text


def test_what_the_cache_has_damaged_is_made_again(making: Checkout, tmp_path: Path) -> None:
    assert making.doit("image:report").code == 0
    store = DirectoryStore(tmp_path / "cache")
    (kept,) = store.list("made/")
    for damage in (b"no archive", store.read(kept.name)[0][:1500]):
        store.write(kept.name, damage)
        shutil.rmtree(making.root / "out" / "report")
        run = making.doit("image:report")
        assert run.code == 0, run.text
        assert re.search(r"what the cache has of \w+ cannot be taken, so it is made: .*is no archive of files", run.out)
        assert (making.root / "out" / "report" / "TEXT").read_text() == "ONE\n"


def test_a_full_disk_of_ours_is_not_the_daemons(making: Checkout) -> None:
    """buildx writes the archive itself: to a device that is always full."""
    made = making.root / ".imagetiers" / "made"
    made.mkdir(parents=True)
    (made / f"{making.plan()['report']['key']}.tar").symlink_to("/dev/full")

    run = making.doit("image:report")

    assert run.code == 1
    assert "/.imagetiers/made/" in run.err
    assert ".tar cannot be written: No space left on device\n  hint: make room there" in run.err
    assert "Docker daemon" not in run.text


def test_what_a_folder_cannot_hold_is_told_of_the_tier(making: Checkout) -> None:
    making.edit("images/report/Dockerfile", "date +%N >/out/when", "mkfifo /out/pipe")
    run = making.doit("image:report")

    assert run.code == 1
    assert (
        "image:report: what it makes cannot be laid out: 'pipe' is neither a file nor a folder or link\n"
        "  hint: COPY what is wanted into a last stage FROM scratch, or `type: tar`, which holds it all\n"
    ) in run.err
    assert not (making.root / "out").exists() or list((making.root / "out").iterdir()) == []


def test_what_somebody_else_has_put_there_stays(making: Checkout) -> None:
    report = making.root / "out" / "report"
    report.mkdir(parents=True)
    (report / "notes").write_text("mine\n")
    refused = making.doit("image:report")
    assert refused.code != 0
    assert "out/report/notes: this lies where the tier's files go, and was not put there by it" in refused.text
    assert (report / "notes").read_text() == "mine\n"
    (report / "notes").unlink()
    assert making.doit("image:report").code == 0

    (report / "notes").write_text("mine\n")
    making.edit("images/report/text", "one", "two")
    assert making.doit("image:report").code != 0
    assert (report / "TEXT").read_text() == "ONE\n", "nor is anything else there touched"
    cleaned = making.doit("clean", "image:report")
    assert "nothing to remove" in cleaned.text, "what was changed since is nobody's to remove"
    (report / "notes").unlink()
    assert making.doit("image:report").code == 0
    dry = making.doit("clean", "-n", "image:report")
    assert "would remove what it has made in out/report" in dry.text, dry.text
    assert report.exists()
    assert making.doit("clean", "image:report").code == 0
    assert not report.exists()

    shutil.rmtree(making.root / ".imagetiers" / "state")
    (making.root / "elsewhere").mkdir()
    (making.root / "out").rmdir()
    (making.root / "out").symlink_to("..")
    led_away = making.doit("image:report")
    assert "lies behind one that leaves the repository" in led_away.text, led_away.text


def test_a_lost_mark_is_found_again(making: Checkout) -> None:
    assert making.doit("image:report", "image:packed").code == 0
    before = (making.root / "out" / "report" / "when").stat()
    shutil.rmtree(making.root / ".imagetiers" / "state")
    again = making.doit("image:report", "image:packed")
    assert again.code == 0, again.text
    assert (making.root / "out" / "report" / "when").stat().st_ino == before.st_ino, "it lay there already"
    assert making.doit("image:report", "image:packed").executed == []


def test_an_image_as_an_archive(making: Checkout) -> None:
    making.edit("pipeline.yaml", "type: tar, dest: out/report.tar", "type: oci, dest: out/image.tar")
    run = making.doit("image:packed")
    assert run.code == 0, run.text
    archive = making.root / "out" / "image.tar"
    with tarfile.open(archive) as tar:
        index = json.loads(tar.extractfile("index.json").read())  # type: ignore[union-attr]
        digest = index["manifests"][0]["digest"].removeprefix("sha256:")
        assert f"blobs/sha256/{digest}" in tar.getnames()
    assert not any("packed" in ref for ref in making.refs()), "the engine keeps nothing"
    assert making.doit("image:packed").executed == []
    loaded = subprocess.run(["docker", "load", "-i", str(archive)], check=True, capture_output=True, text=True).stdout
    assert "packed:" in loaded
    docker("rmi", loaded.split(": ", 1)[1].strip())
