"""What pipeline.yaml declares of an image is held against a real one, with no program in it but a shell's."""

from __future__ import annotations

import json
import secrets
from collections.abc import Iterator
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

from imagetiers.stores.directory import DirectoryStore
from tests.engine.conftest import Checkout, make_checkout, remove_all

GOOD = """\
ARG BASE
FROM ${BASE}
RUN useradd --uid 10001 app && rm -f /usr/bin/chfn /usr/bin/chsh
ENV GREETING=hello
EXPOSE 80
USER app
ENTRYPOINT ["sh", "-c"]
CMD ["echo ok"]
"""
PIPELINE = """\
version: 1
name: declared
tiers:
  base:
    bases: {BASE: "debian:trixie-slim"}
    verify:
      user: non-root
      entrypoint: [sh, -c]
      env: {GREETING: hello}
      ports: [80/tcp]
      healthcheck: none
      libraries: {}
      commands: [bash, {run: [bash, -c, "id -un; echo $GREETING; exit 3"], exit_code: 3, output: hello, matches: ^app$}]
      files: {/etc/debian_version: {owner: root, mode: "0644", contains: "13"}, /bin/sh: present, /opt/conda: absent}
      forbid:
        {programs: [conda], packages: [gcc-14, torch], paths: [/opt/conda], compilers: true, caches: true, git: true,
         credentials: true, setuid: true, world_writable: true,
         allow: [/usr/bin/chage, /usr/bin/expiry, /usr/bin/gpasswd, /usr/bin/mount, /usr/bin/newgrp, /usr/bin/passwd,
                 /usr/bin/su, /usr/bin/umount, /usr/sbin/unix_chkpwd]}
"""
# One of each; the key is removed again, and stays in its layer.
BAD = """\
USER root
RUN rm /usr/lib/x86_64-linux-gnu/libtinfo.so.6* \\
 && mkdir -p /opt/conda /src/.git && touch /src/.git/HEAD && chmod u+s /usr/bin/env && mkdir -m 777 /open \\
 && echo x >/var/lib/apt/lists/x && ln -s /bin/true /usr/local/bin/g++-14
COPY key /root/key
RUN rm /root/key && chmod 600 /etc/debian_version
ENV GREETING=goodbye
HEALTHCHECK CMD true
USER toor
ENTRYPOINT []
"""


@pytest.fixture
def declared(tmp_path: Path) -> Iterator[Checkout]:
    source = tmp_path / "source"
    folder = source / "images" / "base"
    folder.mkdir(parents=True)
    (source / "pipeline.yaml").write_text(PIPELINE)
    (folder / "Dockerfile").write_text(GOOD)
    (folder / ".image-manifest").write_text("")
    made = make_checkout(source, tmp_path / "checkout")
    yield made
    remove_all(made)


def test_an_image_without_python_is_held_against_what_is_declared(declared: Checkout) -> None:
    good = declared.doit()
    assert good.code == 0, good.text
    assert "verify:base: 21 checks passed" in good.out
    cache = DirectoryStore(declared.root / ".imagetiers" / "cache")
    (verdict,) = cache.list("verdicts/")
    assert ["base", "libraries"] in json.loads(cache.read(verdict.name)[0])["checks"]
    assert declared.doit().executed == []
    again = declared.doit("verify:base", "--junit", "-")  # of an image that has passed before
    assert (again.code, again.executed) == (0, ["verify:base"]), again.text
    (suite,) = ET.fromstring(again.out[again.out.index("<?xml") :])  # noqa: S314  ours
    assert (suite.get("tests"), suite.get("failures")) == ("21", "0")

    secret = secrets.token_hex(18)
    (declared.root / "images/base/key").write_text(f"token: ghp_{secret}\n")
    (declared.root / "images/base/.image-manifest").write_text("key\n")
    declared.edit("images/base/Dockerfile", "USER app\n", "RUN echo toor:x:0:0::/:/bin/sh >>/etc/passwd\n")
    with (declared.root / "images/base/Dockerfile").open("a") as file:
        file.write(BAD)
    bad = declared.doit("verify:base", "--json", "out.json")

    assert bad.code == 1
    failed = [each for each in json.loads((declared.root / "out.json").read_text())["checks"] if not each["passed"]]
    assert "/usr/bin/bash needs libtinfo.so.6" in next(
        each["problem"] for each in failed if each["check"] == "libraries"
    )
    assert secret not in bad.text
    for told in (
        "user is toor: programs run as root",
        "entrypoint is none, not sh -c",
        "env GREETING is goodbye, not hello",
        "healthcheck is CMD-SHELL true, not none",
        "/usr/bin/bash needs libtinfo.so.6",
        "ended with exit code 127, not 3",
        "/etc/debian_version has the mode 0600, not 0644",
        "/opt/conda is there: a folder",
        "/usr/local/bin/g++-14",
        "/var/lib/apt/lists/x",
        "/src/.git",
        "/root/key holds a token of GitHub, in layer",
        "/usr/bin/env has the mode 4755",
        "/open has the mode 0777",
    ):
        assert told in bad.err, told


def test_python_is_asked_where_there_is_one_and_missed_where_not(declared: Checkout) -> None:
    declared.edit("pipeline.yaml", "      libraries: {}\n", "      python: {imports: {json: ''}}\n")
    missing = declared.doit()
    assert missing.code == 1
    assert "the image has no python3 on its PATH, so nothing was checked by `verify: {python: ...}`" in missing.err


def test_what_its_python_says(declared: Checkout) -> None:
    install = (
        "RUN apt-get update -qq && apt-get install -qq --no-install-recommends python3-yaml"
        " && rm -rf /var/lib/apt/lists/* && apt-get clean\n"
    )
    declared.edit("images/base/Dockerfile", "RUN useradd", f"{install}RUN useradd")
    asked = "imports: {json: '', yaml: '6', sys: '9'}, versions: {PyYAML: '6.0.2', none: '1'}, pip_check: true"
    declared.edit("pipeline.yaml", "      libraries: {}\n", f"      libraries: {{}}\n      python: {{{asked}}}\n")
    wrong = declared.doit()
    assert wrong.code == 1
    assert "sys does not say which version it is" in wrong.err
    assert "none is not installed" in wrong.err
    assert wrong.err.count("hint: docker run") == 2

    declared.edit("pipeline.yaml", ", sys: '9'", "")
    declared.edit("pipeline.yaml", ", none: '1'", "")
    right = declared.doit()
    assert right.code == 0, right.text
    assert "verify:base: 25 checks passed" in right.out
