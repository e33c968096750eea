"""doit check: what rules say of Dockerfiles, its exit codes, and what it says when something could not be looked at."""

from __future__ import annotations

import os
import subprocess
import sys

from tests.engine.conftest import REPO, Checkout

ELSEWHERE = """
import sys
sys.executable = "/nowhere/python3"
from doit.doit_cmd import DoitMain
sys.exit(DoitMain().run(["check"]))
"""
HIDES = "COPY motd /etc/motd\nRUN rm /etc/motd\n"


def check_without_hadolint(checkout: Checkout) -> subprocess.CompletedProcess[str]:
    """Run doit check where hadolint is neither beside the Python nor on the PATH."""
    env = {**os.environ, **checkout.env, "PYTHONPATH": str(REPO), "PATH": "/usr/bin:/bin"}
    return subprocess.run(
        [sys.executable, "-c", ELSEWHERE], cwd=checkout.root, env=env, capture_output=True, text=True, check=False
    )


def test_what_is_right_passes(offline: Checkout) -> None:
    run = offline.doit("check", "--strict")

    assert (run.code, "Dockerfile:" in run.out) == (0, False)


def test_an_error_fails_and_everything_is_said_at_once(offline: Checkout) -> None:
    offline.edit("images/pytorch-clean/Dockerfile", "COPY motd /etc/motd\n", HIDES)
    offline.edit("images/pytorch-clean/Dockerfile", "USER 10001\n", "")
    run = offline.doit("check")

    assert (run.code, run.out) == (3, "")
    assert run.err.splitlines()[0] == "ERROR: 1 error and 1 warning in the Dockerfiles; nothing was run"
    assert "images/pytorch-clean/Dockerfile:14: error: line 15 removes /etc/motd again" in run.err
    assert "images/pytorch-clean/Dockerfile:13: warning: no USER says" in run.err
    assert "  costs: a layer holds" in run.err


def test_a_warning_fails_only_where_that_is_asked_for(offline: Checkout) -> None:
    offline.edit("images/pytorch-clean/Dockerfile", "USER 10001\n", "")

    assert "warning: no USER says" in offline.doit("check").out
    assert (offline.doit("check").code, offline.doit("check", "--strict").code) == (0, 3)


def test_a_variants_findings_are_named(offline: Checkout) -> None:
    offline.edit("images/pytorch-clean/Dockerfile", "USER 10001\n", "ARG WHO=10001\nUSER ${WHO}\n")
    offline.edit("pipeline.yaml", "args: {GREETING: HELLO}", "args: {GREETING: HELLO, WHO: root}")

    assert (
        "variant=shouting: images/pytorch-clean/Dockerfile:19: warning: the image runs as root"
        in offline.doit("check").out
    )


def test_a_waiver_and_its_end(offline: Checkout) -> None:
    offline.edit("images/pytorch-clean/Dockerfile", "COPY motd /etc/motd\n", HIDES)
    waiver = 'waivers: [{rule: copy-then-remove, tier: pytorch-clean, reason: "for a test", until: %s}]\ntiers:\n'
    offline.edit("pipeline.yaml", "tiers:\n", waiver % "2999-01-01")
    waived = offline.doit("check")
    offline.edit("pipeline.yaml", "2999-01-01", "2020-01-01")
    over = offline.doit("check")

    assert (waived.code, over.code) == (0, 3)
    assert "Dockerfiles: 1 findings are waived" in waived.out
    assert "the waiver of copy-then-remove for pytorch-clean ran out on 2020-01-01: for a test" in over.err


def test_hadolint_is_asked_and_its_absence_said(offline: Checkout) -> None:
    offline.edit("images/arr-base/Dockerfile", "COPY config/ /config/\n", "COPY config/ /config/\nMAINTAINER me\n")
    asked = offline.doit("check")
    offline.edit("pipeline.yaml", "tiers:\n", "hadolint: off\ntiers:\n")
    off = offline.doit("check")

    assert (asked.code, off.code) == (3, 0)
    assert "images/arr-base/Dockerfile:4: error: MAINTAINER is deprecated (hadolint DL4000)" in asked.err


def test_a_context_is_no_missing_stage(offline: Checkout) -> None:
    context = "arr-base: {contexts: {own: {tier: pytorch-clean}}, parent"
    offline.edit("pipeline.yaml", "arr-base: {parent", context)
    copies = "COPY config/ /config/\nCOPY --from=own /a /a\nMAINTAINER me\n"
    offline.edit("images/arr-base/Dockerfile", "COPY config/ /config/\n", copies)
    said = offline.doit("check").text

    assert "images/arr-base/Dockerfile:5: error: MAINTAINER" in said, "hadolint was asked"
    assert "images/arr-base/Dockerfile:4: " not in said


def test_what_hadolint_was_to_look_at_has_not_passed_without_it(offline: Checkout) -> None:
    plain = check_without_hadolint(offline)
    offline.edit("pipeline.yaml", "tiers:\n", "hadolint: required\ntiers:\n")
    required = check_without_hadolint(offline)

    assert plain.returncode == 0
    assert "hadolint's rules were not checked: hadolint is not installed" in plain.stdout
    assert required.returncode == 3
    assert "error: hadolint's rules were not checked" in required.stderr


def test_a_push_is_refused_before_anything_is_built(offline: Checkout) -> None:
    offline.edit("pipeline.yaml", "tiers:\n", "registry: localhost:1\ntiers:\n")
    offline.edit("images/pytorch-clean/Dockerfile", "COPY motd /etc/motd\n", HIDES)
    run = offline.doit("push:arr-base")

    assert (run.code, run.out) == (3, "")
    assert "images/pytorch-clean/Dockerfile:14: line 15 removes /etc/motd again" in run.err


def test_what_is_found_in_a_dockerfile_that_tiers_share_is_said_once(offline: Checkout) -> None:
    offline.edit("pipeline.yaml", "arr-training: {", "arr-training: {matrix: {flavor: [slim, debug]}, ")
    offline.edit("images/arr-training/Dockerfile", "COPY config/ /config/", "COPY config/ /config/\nUSER root")
    run = offline.doit("check")

    assert run.code == 0, run.text
    assert "4 tiers are right" in run.out
    assert run.out.count("(root-user)") == 1
