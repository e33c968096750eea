"""git refs, from real repositories: what a ref is, who does not answer, and what pipeline.lock.yaml says of it."""

from __future__ import annotations

import functools
import http.server
import os
import re
import socket
import subprocess
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import date
from pathlib import Path

import pytest

from imagetiers.adapters.git import GitRemotes
from imagetiers.adapters.process import run
from imagetiers.building.preconditions import check_may_build
from imagetiers.config.layout import Layout
from imagetiers.config.loader import load_config
from imagetiers.config.lockfile import lock_text
from imagetiers.config.model import Trust
from imagetiers.errors import PipelineError, RegistryError
from imagetiers.inputs.repository import load_repository
from imagetiers.operations.lock import lock_pins
from imagetiers.planning.make import make_plan
from imagetiers.planning.observed import Absent, ObservedState, Present, RegistryState, Unknown
from imagetiers.planning.pins import PinState
from imagetiers.planning.plan import Plan, unpinned
from imagetiers.state.pins import pin_states
from tests.conftest import HERE
from tests.registry.harness import Builder, NoCancellation, builder

REPO = HERE.parent
DAY = date(2026, 11, 22)
DIGEST = f"sha256:{'a' * 64}"


@dataclass(frozen=True)
class Upstream:
    """A git repository with a branch, a plain tag and an annotated one."""

    folder: Path

    @property
    def url(self) -> str:
        return f"file://{self.folder}"

    def git(self, *args: str) -> str:
        env = {**os.environ, "GIT_CONFIG_GLOBAL": "/dev/null", "GIT_CONFIG_SYSTEM": "/dev/null"}
        who = ("-c", "user.name=x", "-c", "user.email=x@example.org")
        done = subprocess.run(
            ["git", *who, "-C", str(self.folder), *args], check=True, capture_output=True, text=True, env=env
        )
        return done.stdout.strip()

    def commit(self) -> str:
        self.git("commit", "--quiet", "--allow-empty", "-m", f"one more at {time.monotonic()}")
        return self.git("rev-parse", "HEAD")


@pytest.fixture
def upstream(tmp_path: Path) -> Upstream:
    folder = tmp_path / "upstream"
    folder.mkdir()
    made = Upstream(folder)
    made.git("init", "--quiet", "--initial-branch=main")
    made.commit()
    made.git("tag", "light")
    made.git("tag", "-a", "v1.0", "-m", "annotated")
    made.git("tag", "-a", "v1.0-again", "-m", "a tag of a tag", "v1.0")
    made.commit()
    made.git("branch", "v1.0")  # as git does, a tag is meant where both are
    made.git("branch", "release/1.x")
    made.commit()
    return made


@pytest.fixture
def remotes() -> GitRemotes:
    return GitRemotes(NoCancellation())


def test_refs(upstream: Upstream, remotes: GitRemotes) -> None:
    first, second, third = upstream.git("log", "--reverse", "--format=%H").split()
    expected = {
        "light": first, "v1.0": first, "v1.0-again": first, "refs/tags/v1.0": first, "refs/heads/v1.0": second,
        "release/1.x": second, "1.x": Absent(), "main": third, "HEAD": third, "refs/heads/main": third,
        "nope": Absent(), first[:10]: Absent(),
    }  # fmt: skip

    assert upstream.git("rev-parse", "v1.0") != first, "the tag is an object of its own"
    assert remotes.look_up(upstream.url, expected) == expected
    plain = {ref: commit for ref, commit in expected.items() if ref != "HEAD" and not ref.startswith("refs/")}
    assert remotes.look_up(upstream.url, plain) == plain


def test_over_http_from_a_server_that_knows_nothing_of_git(upstream: Upstream, remotes: GitRemotes) -> None:
    upstream.git("update-server-info")
    with served(upstream.folder / ".git") as url:
        assert remotes.look_up(url, ["v1.0", "x"]) == {
            "v1.0": upstream.git("rev-parse", "v1.0^{commit}"),
            "x": Absent(),
        }
        gone = remotes.look_up(f"{url}nope", ["v1.0"])["v1.0"]
    assert isinstance(gone, Unknown)
    assert "not found" in gone.reason


class served:  # noqa: N801  reads as a verb
    def __init__(self, folder: Path, status: int = 0) -> None:
        class Handler(http.server.SimpleHTTPRequestHandler):
            def log_message(self, format: str, *args: object) -> None:  # noqa: A002
                pass

            def do_GET(self) -> None:
                if not status:
                    super().do_GET()
                    return
                self.send_response(status)
                self.send_header("WWW-Authenticate", 'Basic realm="x"')
                self.send_header("Content-Length", "0")
                self.end_headers()

        self._server = http.server.ThreadingHTTPServer(
            ("127.0.0.1", 0), functools.partial(Handler, directory=str(folder))
        )

    def __enter__(self) -> str:
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return f"http://127.0.0.1:{self._server.server_port}/"

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()


def test_nobody_is_asked_for_a_password(tmp_path: Path, remotes: GitRemotes, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = tmp_path / "asked"
    ask = tmp_path / "ask"
    ask.write_text(f"#!/bin/sh\ntouch {asked}\necho me\n")
    ask.chmod(0o755)
    for name in ("GIT_ASKPASS", "SSH_ASKPASS"):
        monkeypatch.setenv(name, str(ask))
    monkeypatch.setenv("DISPLAY", ":99")
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", "/dev/null")
    with served(tmp_path, status=401) as url:
        answer = remotes.look_up(url, ["v1"])["v1"]

    assert isinstance(answer, Unknown)
    assert "terminal prompts disabled" in answer.reason
    assert not asked.exists()


def test_who_does_not_answer_is_unknown(upstream: Upstream, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    silent = socket.create_server(("127.0.0.1", 0))
    try:
        answer = GitRemotes(NoCancellation(), seconds=1).look_up(f"git://127.0.0.1:{silent.getsockname()[1]}/x", ["v1"])
        assert isinstance(answer["v1"], Unknown)
        assert "does not answer within 1 s" in answer["v1"].reason
        with pytest.raises(TimeoutError, match="sh: has not ended after"):
            run(("sh", "-c", "sleep 60 & sleep 60"), seconds=0.2)
    finally:
        silent.close()
    remotes = GitRemotes(NoCancellation())
    for url in ("http://127.0.0.1:1/x", f"file://{tmp_path}/nope"):
        assert isinstance(remotes.look_up(url, ["v1"])["v1"], Unknown)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert remotes.look_up(upstream.url, ["v1"]) == {"v1": Unknown("the git command is not on the PATH")}


@pytest.mark.parametrize(
    "url", ["--upload-pack=touch {mark}", "ext::sh -c touch% {mark}", "-c", "fd::17", "{folder}", "--help"]
)
def test_no_url_runs_a_command(url: str, upstream: Upstream, tmp_path: Path, remotes: GitRemotes) -> None:
    """The schema refuses them all; and so does git, as it is called."""
    mark = tmp_path / "mark"
    refs = ["v1.0", "--upload-pack=touch {mark}"]

    answers = remotes.look_up(url.format(mark=mark, folder=upstream.folder), refs)

    assert not mark.exists()
    if url != "{folder}":
        assert isinstance(answers["v1.0"], Unknown)


PIPELINE = """\
version: 1
name: tiny
tiers:
  pytorch-clean:
    bases: {{BASE: "debian:trixie-slim"}}
    args: {{GREETING: hello}}
    sources:
      SOURCE_COMMIT: {{git: "{url}", ref: {ref}}}
      RUNTIME_COMMIT: {{git: "{url}", ref: light}}
    compile: {{stage: builder, run: [sh, /src/make-wheel]}}
variants:
  other:
    tiers: {{pytorch-clean: {{sources: {{SOURCE_COMMIT: {{ref: main}}}}}}}}
"""


@pytest.fixture
def locked(tiny: Layout, upstream: Upstream, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Builder:
    """The tiny pipeline with two sources: one for the compile, one for the image."""
    tiny.pipeline.write_text(PIPELINE.format(url=upstream.url, ref="v1.0"))
    dockerfile = tiny.root / "images/pytorch-clean/Dockerfile"
    text = dockerfile.read_text().replace("ARG GREETING", "ARG GREETING\nARG SOURCE_COMMIT")
    dockerfile.write_text(text.replace("USER 10001", "ARG RUNTIME_COMMIT\nUSER 10001"))
    me = builder(tiny.root, "", tmp_path / "cache")
    monkeypatch.setattr(me.services.registry, "look_up", lambda refs: {ref: Present(DIGEST) for ref in refs})
    return me


def plan(layout: Layout, variant: str | None = None) -> Plan:
    return make_plan(load_repository(layout, variant), DAY)


def compile_args(layout: Layout, variant: str | None = None) -> Mapping[str, str]:
    step = plan(layout, variant).tiers["pytorch-clean"].compile
    assert step is not None
    return step.args


def lock(me: Builder, *, check: bool = False, keep: bool = False) -> None:
    lock_pins(me.session, ["other"], check=check, keep=keep)


def test_lock(locked: Builder, upstream: Upstream) -> None:
    first, _, third = upstream.git("log", "--reverse", "--format=%H").split()
    url, layout = upstream.url, locked.layout
    loose = plan(layout).tiers["pytorch-clean"]
    assert compile_args(layout)["SOURCE_COMMIT"] == "v1.0", "as with bases: built from the tag"
    assert unpinned(loose, plan(layout).pipeline) == ("debian:trixie-slim", f"{url}#light", f"{url}#v1.0")
    with pytest.raises(PipelineError, match=rf"is stale:(.|\n)*{re.escape(url)}#v1.0\n    \+ {first}"):
        lock(locked, check=True)
    assert not layout.lock.exists()

    lock(locked)
    pins, commits = {"debian:trixie-slim": DIGEST}, {f"{url}#light": first, f"{url}#main": third, f"{url}#v1.0": first}
    assert layout.lock.read_text() == lock_text(pins, commits)
    tier = plan(layout).tiers["pytorch-clean"]
    assert tier.compile is not None
    assert (tier.compile.args["SOURCE_COMMIT"], tier.compile.key_document.args["SOURCE_COMMIT"]) == (first, first)
    assert "SOURCE_COMMIT" not in {**tier.key_document.args, **tier.args}, "only the compile's stages declare it"
    assert tier.args["RUNTIME_COMMIT"] == first
    assert compile_args(layout, "other")["SOURCE_COMMIT"] == third
    assert unpinned(tier, plan(layout).pipeline) == ()
    lock(locked, check=True)
    assert "4 pins are up to date" in locked.said

    moved = upstream.commit()
    lock(locked, keep=True)
    assert third in layout.lock.read_text()
    with pytest.raises(PipelineError, match=rf"#main\n    - {third}\n    \+ {moved}"):
        lock(locked, check=True)
    before = plan(layout)
    lock(locked)
    assert plan(layout).tiers["pytorch-clean"].key == before.tiers["pytorch-clean"].key
    assert compile_args(layout, "other")["SOURCE_COMMIT"] == moved

    text = layout.lock.read_text()
    layout.pipeline.write_text(PIPELINE.format(url=upstream.url, ref="v9"))
    with pytest.raises(RegistryError) as error:
        lock(locked)
    assert str(error.value) == (
        f"{url}#v9: the repository has no such tag or branch\n"
        "  hint: correct tiers.*.sources in pipeline.yaml; of a commit, write all 40 digits"
    )
    layout.pipeline.write_text(PIPELINE.format(url=f"{url}-nope", ref="v1.0"))
    with pytest.raises(
        RegistryError, match=r"-nope#light: cannot be resolved: git ls-remote: .*\n  hint: (.|\n)*#v1.0"
    ):
        lock(locked)
    assert layout.lock.read_text() == text


def test_a_commit_needs_no_lock(locked: Builder, upstream: Upstream) -> None:
    first = upstream.git("rev-parse", "v1.0^{commit}")
    locked.layout.pipeline.write_text(PIPELINE.format(url=upstream.url, ref=f'"{first}"'))
    tier = plan(locked.layout).tiers["pytorch-clean"]

    assert compile_args(locked.layout)["SOURCE_COMMIT"] == first
    assert f"{upstream.url}#{first}" not in unpinned(tier, plan(locked.layout).pipeline)
    lock(locked)
    assert f"#{first}" not in locked.layout.lock.read_text()


def test_a_trusted_build_for_others_wants_its_refs_pinned(locked: Builder, upstream: Upstream) -> None:
    layout = locked.layout
    layout.pipeline.write_text(layout.pipeline.read_text().replace("version: 1\n", "version: 1\nregistry: host/x\n"))
    layout.lock.write_text(f"images:\n  debian:trixie-slim: {DIGEST}\n")
    made = plan(layout)
    tier = made.tiers["pytorch-clean"]

    with pytest.raises(PipelineError) as error:
        check_may_build(made, tier, ObservedState(registered={tier.name: RegistryState()}), "image:x", force=False)

    assert str(error.value) == (
        f"image:x: pipeline.lock.yaml: {upstream.url}#light, {upstream.url}#v1.0 are not pinned, "
        "but what is built is for others\n  hint: doit lock, then look at the change and commit it"
    )
    untrusted = ObservedState(registered={tier.name: RegistryState()}, trust=Trust(trusted=False, branch="pr-7"))
    check_may_build(made, tier, untrusted, "image:x", force=False)


def test_production_is_pinned_to_what_the_dockerfile_says() -> None:
    """`docker build images/pytorch-clean` and doit take the same commits, from the same repositories."""
    text = (REPO / "images/pytorch-clean/Dockerfile").read_text()
    pipeline = load_config(Layout(REPO), None).pipeline
    sources = pipeline.tiers["pytorch-clean"].sources

    assert dict(re.findall(r"^ARG (\w+_COMMIT)=(\w+)$", text, re.MULTILINE)) == {
        name: pipeline.commit(source) for name, source in sources.items()
    }
    fetched = {name: url for url, name in re.findall(r'fetch-git (\S+) "\$\{(\w+)\}"', text)}
    assert fetched == {name: source.git for name, source in sources.items()}
    written = lock_text(pipeline.pins, pipeline.commits)
    assert (REPO / "pipeline.lock.yaml").read_text() == written, "written as `doit lock` writes it"
    for variant in ("cpu", "quickstart"):
        assert load_config(Layout(REPO), variant).pipeline.tiers["pytorch-clean"].sources == {}


def test_how_status_knows_that_a_pinned_branch_has_moved(locked: Builder, upstream: Upstream) -> None:
    lock(locked)
    me = replace(locked, plan=plan(locked.layout, "other"))
    name, began = f"{upstream.url}#main", 1000.0

    def main_at(now: float) -> PinState:
        session = replace(me.session, services=replace(me.services, now=lambda: now))
        (found,) = (pin for pin in pin_states(session, ask=True)["pytorch-clean"] if pin.ref == name)
        return found

    pinned = main_at(began)
    assert (pinned.moved, pinned.at) == (False, began)
    moved = upstream.commit()
    assert main_at(began + 3599) == pinned, "it was asked less than an hour ago"
    later = main_at(began + 3600)
    assert (later.moved, later.now, later.pinned) == (True, moved, pinned.now)
