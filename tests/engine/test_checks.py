"""Nothing is verified that was not checked, and no compile passes for more than it was: on the real engine."""

from __future__ import annotations

import json
import re
from pathlib import Path

from tests.engine.conftest import Checkout

SCRIPT = "images/arr-base/verify.py"


def log_of(text: str) -> str:
    found = re.search(r"the full output is (\S+\.log)", text)
    assert found, text
    return Path(found[1]).read_text()


def test_checks_that_were_not_made_do_not_pass(checkout: Checkout) -> None:
    assert checkout.doit("verify:arr-base").code == 0
    (checkout.root / SCRIPT).write_text("exit 1\n")
    silent = checkout.doit("verify:arr-base")
    assert log_of(silent.err).endswith("-- arr-base\n\n-- exit code 1\n")
    (checkout.root / SCRIPT).write_text("echo before; nosuchprogram; echo Traceback of it >&2; exit 3\n")
    crash = checkout.doit("verify:arr-base")
    (checkout.root / SCRIPT).write_text("exit 0\n")
    nothing = checkout.doit("verify:arr-base")

    assert (silent.code, crash.code, nothing.code) == (1, 1, 1)
    assert f"{SCRIPT} ended with exit code 1 and printed nothing" in silent.err
    assert f"{SCRIPT} ended with exit code 3; its last lines:\n    before\n" in crash.err
    assert "    Traceback of it\n" in crash.err
    assert f"{SCRIPT} checked nothing" in nothing.err
    tiers = json.loads(checkout.doit("status", "--json", "-").out)["tiers"]
    assert [tier["verified"] for tier in tiers] == [False, False, False]
    (failed,) = (tier["failed"] for tier in tiers if tier["failed"] is not None)
    assert [check["check"] for check in failed["checks"]] == [SCRIPT]
    assert "checked nothing" in failed["checks"][0]["line"]
    (checkout.root / SCRIPT).write_text("echo 'FAIL torch: it is gone'\n")
    assert checkout.doit("verify:arr-base").code == 1
    assert "checks failed: torch" in " ".join(checkout.doit("status").out.split())
    (checkout.root / SCRIPT).write_text("echo 'ok   torch'\n")
    assert checkout.doit("verify:arr-base").code == 0
    assert "checks failed" not in checkout.doit("status").out


def test_an_image_that_cannot_run_the_checks_says_so(checkout: Checkout) -> None:
    checkout.edit("images/pytorch-clean/Dockerfile", "COPY python3 /usr/local/bin/python3", "")
    checkout.edit("images/pytorch-clean/.image-manifest", "python3\n", "!python3\n")
    run = checkout.doit("verify:pytorch-clean")
    assert run.code == 1
    assert "the image has no python3 on its PATH, so nothing was checked by images/pytorch-clean/verify.py" in run.err

    (checkout.root / "images/arr-base/Dockerfile").write_text(
        "ARG PARENT\nFROM ${PARENT} AS full\nFROM scratch\nCOPY --from=full /etc/motd /motd\nCOPY config/ /config/\n"
    )
    bare = checkout.doit("verify:arr-base")
    assert bare.code == 1
    assert "the checks could not be started" in bare.err
    assert "exec /bin/sh failed" in bare.err
    assert "Traceback" not in bare.text


def test_a_tier_without_checks_is_built_and_not_called_verified(checkout: Checkout) -> None:
    for name in ("pytorch-clean", "arr-base"):
        (checkout.root / f"images/{name}/verify.py").unlink()
    checkout.edit("pipeline.yaml", "    verify: {params: {without: [gcc]}}\n", "")

    run = checkout.doit("verify:arr-base")

    assert run.code == 0, run.text
    assert "verify:arr-base: nothing was checked" in run.out
    assert "checks passed" not in run.out
    assert checkout.doit("status").out.count("no checks") == 3


def test_strict_is_refused_before_a_compile_without_ccache(checkout: Checkout) -> None:
    assert "no compiler was called through ccache" not in checkout.doit("compile").out
    checkout.edit("pipeline.yaml", "max_size: 100M}", "max_size: 100M, strict: true}")

    run = checkout.doit("compile:pytorch-clean", "--rebuild")

    assert run.code == 1
    assert "the stage 'builder' has no ccache on its PATH" in run.err
    assert checkout.containers() == []


def test_what_a_compile_leaves_is_told(checkout: Checkout) -> None:
    script = "images/pytorch-clean/make-wheel"
    checkout.edit(script, "set -eu", "set -eu\necho notes >${WHEELS_DIR:-/wheels}/notes.txt")
    some = checkout.doit("compile")
    assert some.code == 0, some.text
    assert "compile:pytorch-clean: left notes.txt (not *.whl) in /wheels; only wheels are kept" in some.out

    checkout.edit(script, "tiny-1-py3-none-any.whl", "tiny-1.tar.gz")
    none = checkout.doit("compile")
    assert none.code == 1
    assert "left no wheel in /wheels, only notes.txt (not *.whl), tiny-1.tar.gz (not *.whl)" in none.err
    where = Path(none.err.split("it is in ")[1].strip())
    assert {"notes.txt", "tiny-1.tar.gz"} <= {path.name for path in where.iterdir()}
