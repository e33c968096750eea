"""What is run to check the images of a chain runs side by side on the real engine, and none of it outlives the doit."""

from __future__ import annotations

import os
import re
import signal
from pathlib import Path

import pytest

from tests.engine.conftest import Checkout, docker, send, wait_while

pytestmark = pytest.mark.skipif((os.cpu_count() or 1) < 2, reason="needs two processors")

WHERE = """\
while read -r name value; do
  [ "$name" = Cpus_allowed_list: ] && echo "ok   on $value"
done </proc/self/status
true
"""


@pytest.fixture
def built(checkout: Checkout) -> Checkout:
    """A checkout whose images are all here, and none checked."""
    assert checkout.doit("image").code == 0
    return checkout


def script(checkout: Checkout, tier: str, text: str) -> None:
    (checkout.root / f"images/{tier}/verify.py").write_text(text)


def logs(checkout: Checkout, tier: str) -> str:
    return "".join(path.read_text() for path in (Path(checkout.root) / ".imagetiers/logs" / tier).glob("verify-*"))


def test_each_has_processors_of_its_own(built: Checkout) -> None:
    script(built, "pytorch-clean", f"sleep 4\n{WHERE}")
    script(built, "arr-base", WHERE)

    run = built.doit("verify")

    assert run.code == 0, run.text
    where = {tier: set(re.findall(r"ok   on (\S+)", logs(built, tier))) for tier in ("pytorch-clean", "arr-training")}
    assert all(len(each) == 1 for each in where.values()), "a container's scripts share them"
    (first,), (last,) = where.values()
    assert first.split("-")[0] == "0"
    assert last != first
    assert "alone" not in run.text
    assert built.containers() == []


def test_what_fails_only_beside_others_does_not_fail(built: Checkout) -> None:
    every = f"0-{(os.cpu_count() or 1) - 1}"
    alone = f'{WHERE.replace("echo", "at=$value; true")}[ "$at" = {every} ] && echo "ok   alone" || echo "FAIL crowded: $at"\n'
    script(built, "pytorch-clean", f"sleep 3\n{alone}")
    script(built, "arr-base", "echo 'ok   it is well'\n")

    run = built.doit("verify")

    assert run.code == 0, run.text
    assert (
        "verify:pytorch-clean: not all has passed beside the checks of other images, so it is run again, alone"
        in run.out
    )
    assert "FAIL crowded" not in run.text
    assert built.containers() == []


def slow(checkout: Checkout, command: str) -> None:
    """Let the image of arr-base take a command more."""
    checkout.edit("images/arr-base/Dockerfile", "FROM ${PARENT}\n", f"FROM ${{PARENT}}\nUSER root\nRUN {command}\n")


def test_the_first_is_checked_while_the_others_are_built(checkout: Checkout) -> None:
    script(checkout, "pytorch-clean", 'echo "ok   at $(date +%s)"\n')
    slow(checkout, f"sleep 8 && echo {checkout.name} >/tmp/built && date +%s >>/tmp/built")

    run = checkout.doit()

    assert run.code == 0, run.text
    at = [int(when) for when in re.findall(r"ok   at (\d+)", logs(checkout, "pytorch-clean"))]
    built = docker(
        "run", "--rm", "--network=none", str(checkout.plan()["arr-base"]["ref"]), "cat", "/tmp/built"
    ).split()
    assert built[0] == checkout.name
    assert len(at) == 1, "what was begun then is not run again"
    assert at[0] < int(built[1])


def test_a_build_that_is_killed_beside_a_check_is_made_again(checkout: Checkout) -> None:
    only_there = (
        "trap 'exit 1' TERM\n[ -d /config ] || { sleep 15 & wait; }\n"  # a child, which has that folder, asks it, too
    )
    script(checkout, "pytorch-clean", f"{only_there}echo 'ok   it is well'\n")
    killed_once = f"sh -c ': {checkout.name}; test -e /kept/once || {{ sleep 3; touch /kept/once; kill -9 $$; }}'"
    slow(checkout, f"--mount=type=cache,id={checkout.name},target=/kept {killed_once}")

    run = checkout.doit()

    assert run.code == 0, run.text
    assert "image:arr-base: was killed beside checks, so it is built again, alone" in run.out
    assert logs(checkout, "pytorch-clean").count("ok   it is well") == 1, "the first was ended"


@pytest.mark.parametrize("mode", [(), ("-n", "2")], ids=["alone", "in threads"])
def test_interrupted_it_ends_all_of_them(built: Checkout, mode: tuple[str, ...]) -> None:
    script(built, "pytorch-clean", "trap 'exit 1' TERM\nsleep 300 & wait\n")
    process = built.start(*mode, "verify")
    wait_while(process, lambda: len(built.containers()) > 1)

    run = send(process, signal.SIGINT)

    assert run.code != 0
    assert "Traceback" not in run.text
    assert built.containers() == []


def test_when_the_first_fails_the_others_are_ended(built: Checkout) -> None:
    script(built, "pytorch-clean", "sleep 2\necho 'FAIL it is broken'\n")
    script(built, "arr-base", "sleep 300\necho 'ok   late'\n")

    run = built.doit("verify")

    assert run.code == 1
    assert "FAIL it is broken" in run.err
    assert "Traceback" not in run.text
    assert built.containers() == []
    assert run.seconds < 60
