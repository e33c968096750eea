"""A program in Go: compiled in its parent's image, without a compiler cache, and the same wherever it comes from."""

from __future__ import annotations

import os
import shutil
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from imagetiers.adapters.docker import DockerEngine
from tests.conftest import HERE
from tests.engine.conftest import Checkout, docker, forget_images, make_checkout, remove_all
from tests.registry.harness import NoCancellation

MAKE = """\
package main

import "os"

func main() {
	folder := os.Getenv("OUTPUTS_DIR") + "/bin"
	if os.Mkdir(folder, 0o755) != nil || os.WriteFile(folder+"/made", []byte("by /make\\n"), 0o644) != nil {
		os.Exit(1)
	}
}
"""
CCACHE_WORDS = ("ccache", "cold", "warm", "hit", "wheel")


@pytest.fixture
def hello(tmp_path: Path) -> Iterator[Checkout]:
    made = make_checkout(HERE / "repos" / "go", tmp_path / "checkout")
    yield made
    remove_all(made)


def tree(folder: Path) -> dict[str, tuple[str, int, str]]:
    found = {}
    for path in sorted(folder.rglob("*")):
        status = path.lstat()
        link = os.readlink(path) if path.is_symlink() else ""  # noqa: PTH115
        found[str(path.relative_to(folder))] = (stat.filemode(status.st_mode), status.st_mtime_ns, link)
    return found


def outputs(checkout: Checkout) -> Path:
    return next((checkout.root / ".imagetiers" / "wheels").iterdir()) / "outputs"


def in_image(checkout: Checkout) -> str:
    """Return what lies in /usr/local of the image: modes, owners, times, names, links and hashes."""
    look = "cd /usr/local && find bin share/hello -printf '%M %U:%G %T@ %p %l\\n' | sort && sha256sum bin/hello"
    return docker("run", "--rm", "--network=none", "--user=0", f"{checkout.name}/hello:latest", "sh", "-c", look)


def test_a_program_in_go(hello: Checkout) -> None:
    planned = hello.doit("plan")
    first = hello.doit("verify:hello")
    assert first.code == 0, first.text
    kept, built = tree(outputs(hello)), in_image(hello)
    again = hello.doit("verify:hello")
    status = hello.doit("status")
    record = hello.records("compile")[0]

    assert first.executed == ["image:go", "compile:hello", "image:hello", "verify:hello"]
    assert again.executed == []
    assert (
        "compile:hello: left what no pattern of compile.outputs means, so it was removed: rest (a folder)" in first.out
    )
    for run in (planned, first, again, status):
        assert not [line for line in run.text.splitlines() if any(word in line for word in CCACHE_WORDS)], run.text
    assert record["change"] == "compile"
    assert list(kept) == [
        "bin",
        "bin/hello",
        "bin/hi",
        "share",
        "share/hello",
        "share/hello/empty",
        "share/hello/greeting",
    ]
    assert (kept["bin/hello"][0], kept["bin/hi"][2]) == ("-rwxr-xr-x", "hello")
    assert kept["share/hello/empty"][0] == "drwxr-x---"
    assert "drwxr-x--- 0:0" in built
    assert "lrwxrwxrwx 0:0" in built
    assert docker("run", "--rm", "--network=none", f"{hello.name}/hello:latest", "hi") == "hello\n"
    builder = docker("images", "--format={{.Repository}}:{{.Tag}}", f"{hello.name}/hello-builder").strip()
    assert docker("inspect", '--format={{index .Config.Labels "dev.imagetiers.tier"}}', builder) == "go\n"
    known = {ref for image in DockerEngine(NoCancellation()).images() for ref in image.refs}
    assert {ref.partition(":")[0] for ref in known if ref.startswith(f"{hello.name}/")} == {
        f"{hello.name}/go",
        f"{hello.name}/hello",
    }, "the builder has its parent's labels, and is no image of that tier"

    forget_images(hello)
    shutil.rmtree(hello.root / ".imagetiers" / "wheels")
    back = hello.doit("verify:hello")

    assert back.code == 0, back.text
    assert "compile:hello: outputs " in back.out
    assert len(hello.records("compile")) == 1, "it was taken from the cache"
    assert tree(outputs(hello)) == kept
    assert in_image(hello) == built


def test_a_step_that_leaves_something_else(hello: Checkout) -> None:
    hello.edit("pipeline.yaml", "share/]", "dist/*.tar.gz]")
    hello.edit("images/hello/build", "go build", "cp /bin/true ./hello && true")
    hello.edit("images/hello/build", '-o "$OUTPUTS_DIR/bin/hello" .', '&& mkdir "$OUTPUTS_DIR/bin"')
    run = hello.doit("compile:hello")

    assert run.code == 1
    assert (
        "compile:hello: nothing of what the step left in $OUTPUTS_DIR is meant by 'dist/*.tar.gz'; it left bin, rest, share\n"
        "  hint: correct compile.outputs, or what compile.run copies there\n"
        "compile:hello: bin/hi: is a link to hello, which is not kept\n"
    ) in run.err
    assert hello.containers() == []


def test_what_the_stage_lacks_is_told_before_it_compiles(hello: Checkout) -> None:
    """One error with all of it; and of a stage without a shell what that means."""
    hello.edit("pipeline.yaml", "run: ./build, cache: none", "run: no-such-program, ccache: {strict: true}")
    lacking = hello.doit("compile:hello")
    hello.edit("pipeline.yaml", "ccache: {strict: true}", "cache: none")
    unasked = hello.doit("compile:hello")
    hello.edit("pipeline.yaml", "cache: none", "ccache: {strict: true}")
    hello.edit(
        "images/hello/Dockerfile", "FROM ${PARENT} AS builder", "FROM ${PARENT} AS whole\nFROM scratch AS builder"
    )
    hello.edit("images/hello/Dockerfile", "COPY go.mod", "COPY --from=whole /bin/true /bin/true\nCOPY go.mod")
    bare = hello.doit("compile:hello")

    assert (lacking.code, unasked.code, bare.code) == (1, 1, 1)
    assert (
        "compile:hello: the stage 'builder' has no no-such-program, which compile.run names\n"
        "  hint: install it in that stage, or correct the step\n"
    ) in unasked.err
    assert (
        "compile:hello: the stage 'builder' has no no-such-program, which compile.run names\n"
        "  hint: install it in that stage, or correct the step\n"
        "compile:hello: the stage 'builder' has no ccache on its PATH, so no compile of it can be warm (strict: true)\n"
        "  hint: install ccache there; strict: false compiles without it"
    ) in lacking.err
    assert (
        "compile:hello: the stage 'builder' has no /bin/sh, which starts what has a compiler cache or secrets\n"
        "  hint: install it in that stage, or correct the step"
    ) in bare.err
    assert hello.containers() == []


def test_a_stage_from_scratch_compiles(hello: Checkout) -> None:
    """One with a program and nothing else: no shell, no libraries, no /tmp."""
    hello.edit(
        "pipeline.yaml",
        'run: ./build, cache: none, outputs: ["bin/*", share/]',
        "run: /make, cache: none, outputs: [bin/]",
    )
    hello.edit(
        "pipeline.yaml",
        "verify: {commands: [{run: [hello], output: hello}], files: {/usr/local/share/hello/greeting: present}}",
        "",
    )
    (hello.root / "images" / "hello" / "main.go").write_text(MAKE)
    hello.edit("images/hello/Dockerfile", "FROM ${PARENT} AS builder", "FROM ${PARENT} AS whole")
    hello.edit(
        "images/hello/Dockerfile",
        "COPY go.mod main.go build ./\n",
        "COPY go.mod main.go ./\nRUN go build -o /make .\n\nFROM scratch AS builder\nCOPY --from=whole /make /make\n",
    )
    hello.edit("images/hello/.image-manifest", "build\n", "")
    run = hello.doit("image:hello")

    assert run.code == 0, run.text
    assert (
        docker(
            "run",
            "--rm",
            "--network=none",
            str(hello.plan()["hello"]["ref"]),
            "cat",
            "/usr/local/bin/made",
        )
        == "by /make\n"
    )
