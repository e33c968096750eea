"""doit as its users know it, on the real engine: what runs, what does not, and what is said."""

from __future__ import annotations

import contextlib
import json
import os
import pty
import re
import shutil
import subprocess
import sys
from pathlib import Path

from tests.engine.conftest import REPO, Checkout, docker
from tests.waiting import PATIENCE

TIERS = ["pytorch-clean", "arr-base", "arr-training"]
EVERYTHING = ["compile:pytorch-clean"] + [f"image:{t}" for t in TIERS] + [f"verify:{t}" for t in TIERS]


def test_the_life_of_a_pipeline(checkout: Checkout) -> None:
    first = checkout.doit()
    assert first.code == 0, first.text
    assert first.executed == EVERYTHING
    assert "0 of 6 compiler calls were hits" in first.out
    assert first.out.count("yes") == 3  # the status table comes by itself
    assert f"{checkout.name}/arr-training:latest" in checkout.refs()

    second = checkout.doit()
    assert (second.code, second.executed) == (0, [])
    assert "status" not in second.out

    for path in checkout.root.rglob("*"):
        path.touch()
    assert checkout.doit().executed == []

    (checkout.root / "images/arr-training/config/arr-training.txt").write_text("edited")
    plan = checkout.plan()
    assert plan["arr-base"]["state"] == "found locally"
    assert plan["arr-training"]["why"] == ["config/arr-training.txt edited"]
    assert checkout.doit().executed == ["image:arr-training", "verify:arr-training"]

    (checkout.root / "images/arr-training/config/arr-training.txt").write_text("for arr-training\n")
    assert checkout.doit().executed == ["verify:arr-training"], "only the friendly tag moves back"

    checkout.edit("images/pytorch-clean/Dockerfile", "USER 10001", "RUN true\nUSER 10001")
    runtime = checkout.doit()
    assert runtime.executed == EVERYTHING[1:], "editing the runtime stage compiles nothing"

    docker("rmi", "-f", *[ref for ref in checkout.refs() if "/arr-base:" in ref])
    assert checkout.doit().executed == ["image:arr-base", "verify:arr-base"]

    shutil.rmtree(checkout.root / ".imagetiers" / "wheels")
    assert checkout.doit().executed == [], "images that are here need no wheels"
    docker("rmi", "-f", *[ref for ref in checkout.refs() if "/pytorch-clean:" in ref])
    fetched = checkout.doit("compile")
    assert "taken from" in fetched.out

    shutil.rmtree(checkout.root / ".imagetiers" / "wheels")
    shutil.rmtree(checkout.root / ".imagetiers" / "cache")
    warm = checkout.doit("compile")
    assert "6 of 6 compiler calls were hits (100.0 %)" in warm.out

    (checkout.root / "images/arr-base/verify.py").write_text("echo FAIL on purpose; exit 1\n")
    bad = checkout.doit()
    assert bad.code == 1
    assert "FAIL on purpose" in bad.err
    assert "Traceback" not in bad.text


def test_a_tier_is_added_with_a_folder_and_a_line(checkout: Checkout) -> None:
    checkout.doit("image:arr-base")
    folder = checkout.root / "images" / "arr-extra"
    folder.mkdir()
    (folder / "Dockerfile").write_text("ARG PARENT\nFROM ${PARENT}\nCOPY hello /hello\n")
    (folder / ".image-manifest").write_text("hello\n")
    (folder / "hello").write_text("hi")
    checkout.edit("pipeline.yaml", "variants:", "  arr-extra: {parent: arr-base}\nvariants:")

    run = checkout.doit("verify:arr-extra")

    assert run.code == 0, run.text
    assert run.executed == ["image:arr-extra", "verify:arr-extra"]
    assert docker("run", "--rm", f"{checkout.name}/arr-extra:latest", "cat", "/hello") == "hi"


def test_a_child_compiles_in_its_parents_image(checkout: Checkout) -> None:
    folder = checkout.root / "images" / "arr-base"
    (folder / "make-wheel").write_text('tee -a /ccache/seen "$WHEELS_DIR/child-1-py3-none-any.whl" </greeting\n')
    (folder / ".image-manifest").write_text("make-wheel\n")
    lines = ["ARG PARENT", "FROM ${PARENT} AS builder", "COPY make-wheel /src/", "FROM builder AS compiled"]
    lines += ["FROM scratch AS wheels", "COPY --from=compiled /wheels/ /", "FROM ${PARENT}"]
    lines += ["RUN --mount=type=bind,from=wheels,target=/wheels cat /wheels/*.whl >/tmp/child", ""]
    (folder / "Dockerfile").write_text("\n".join(lines))
    (folder / "verify.py").write_text('grep -q hello /tmp/child && echo "ok   it was compiled there"\n')
    old, new = "arr-base: {parent", "arr-base: {compile: {stage: builder, run: [sh, /src/make-wheel]}, parent"
    checkout.edit("pipeline.yaml", old, new)

    run = checkout.doit("verify:arr-base")

    assert run.code == 0, run.text
    assert run.executed[:4] == ["compile:pytorch-clean", "image:pytorch-clean", "compile:arr-base", "image:arr-base"]
    checkout.edit("images/pytorch-clean/motd", "", "another parent ")
    again = checkout.doit("compile:arr-base")
    assert again.executed == ["image:pytorch-clean", "compile:arr-base"], "what it compiles in has changed"


def test_one_tier_builds_its_parents_and_no_more(checkout: Checkout) -> None:
    run = checkout.doit("image:arr-base")

    assert run.executed == ["compile:pytorch-clean", "image:pytorch-clean", "image:arr-base"]


def test_in_parallel(checkout: Checkout) -> None:
    checkout.edit("pipeline.yaml", "variants:", "  sister: {parent: pytorch-clean}\nvariants:")
    shutil.copytree(checkout.root / "images" / "arr-base", checkout.root / "images" / "sister")

    run = checkout.doit("-n", "4")

    assert run.code == 0, run.text
    assert sorted(run.executed) == sorted([*EVERYTHING, "image:sister", "verify:sister"])
    assert checkout.doit("-n", "4").executed == []


def test_two_at_once_share_the_work(checkout: Checkout) -> None:
    runs = [checkout.start() for _ in range(2)]
    results = [(process.communicate(timeout=PATIENCE), process.returncode) for process in runs]

    assert [code for _, code in results] == [0, 0], results
    assert len(checkout.records("compile")) == 1, "one of them compiled, the other waited"


def test_variants_live_side_by_side(checkout: Checkout) -> None:
    assert checkout.doit().code == 0
    assert checkout.doit("variant=shouting").code == 0

    assert checkout.doit().executed == []
    assert checkout.doit("variant=shouting").executed == []
    assert docker("run", "--rm", f"{checkout.name}/arr-base:shouting", "cat", "/greeting").startswith("HELLO")


def test_list_info_and_plan_tell_the_truth(checkout: Checkout) -> None:
    listed = checkout.doit("list")
    housekeeping = [f"ccache:{verb}" for verb in ("ls", "prune", "pull", "push", "rollback", "show", "stats", "verify")]
    names = [line.split()[0] for line in listed.out.splitlines()]
    rest = [
        "check",
        "cloudbuild",
        "compile",
        "explain",
        "gc",
        "image",
        "lock",
        "metrics",
        "plan",
        "pull",
        "push",
        "report",
        "scan",
        "scan:diff",
        "setup",
        "size",
        "status",
        "teardown",
        "trust:init",
        "trust:rotate",
        "trust:status",
        "tui",
        "verify",
        "verify-supply-chain",
        "watch",
    ]
    assert names == ["bake", "cache:gc", *housekeeping, *rest]

    info = checkout.doit("info", "image:arr-base")
    assert info.code == 1
    assert "never built here" in info.out

    unknown = checkout.doit("info", "image:nope")
    assert (unknown.code, unknown.err.strip()) == (
        3,
        "ERROR: there is no task 'image:nope'; doit list --all shows them",
    )

    plan = checkout.plan()
    assert list(plan) == TIERS
    assert plan["pytorch-clean"]["runs"] == ["compile:pytorch-clean", "image:pytorch-clean", "verify:pytorch-clean"]
    target = checkout.root / "plan.json"
    assert checkout.doit("plan", "--json", str(target)).out == ""
    assert json.loads(target.read_text())["version"] == 1

    checkout.doit("image:arr-base")
    status = checkout.doit("list", "--all", "-s").out
    assert "U image:arr-base" in status
    assert "R image:arr-training" in status
    assert checkout.doit("info", "image:arr-base").code == 0


def test_clean_takes_back_and_forget_does_again(checkout: Checkout) -> None:
    checkout.doit()
    dry = checkout.doit("clean", "-n", "image:arr-training")
    assert "image:arr-training: would remove the image" in dry.out
    assert any("/arr-training:" in ref for ref in checkout.refs())

    assert checkout.doit("clean", "image:arr-training").code == 0
    assert not any("/arr-training:" in ref for ref in checkout.refs())
    assert checkout.doit().executed == ["image:arr-training", "verify:arr-training"]

    checkout.doit("forget", "image:arr-base")
    again = checkout.doit()
    assert again.executed == ["image:arr-base", "verify:arr-base"], "a forgotten task runs once more"
    assert checkout.doit().executed == []

    checkout.doit("clean", "compile")
    assert not list((checkout.root / ".imagetiers" / "wheels").iterdir())
    forced = checkout.doit("compile:pytorch-clean", "--rebuild")
    assert "6 of 6 compiler calls were hits" in forced.out, "clean keeps the ccache"


def test_a_failing_compile_names_the_error_and_the_log(checkout: Checkout) -> None:
    (checkout.root / "images/pytorch-clean/source.txt").write_text("one two broken three")

    run = checkout.doit()

    assert run.code == 1
    assert "source.txt:1:1: error: this word does not compile" in run.err
    log = Path(run.err.split("the full log is ")[1].strip())
    assert "[2/4] Building two" in log.read_text()
    assert "Traceback" not in run.text
    assert checkout.containers() == []

    (checkout.root / "images/pytorch-clean/source.txt").write_text("one two three")
    assert "2 of 3 compiler calls were hits" in checkout.doit("compile").out, "the failed compile kept its cache"


def test_a_failing_build_names_the_step(checkout: Checkout) -> None:
    checkout.edit(
        "images/arr-base/Dockerfile", "COPY config/ /config/", "COPY config/ /config/\nRUN echo so bad >&2; exit 7"
    )

    run = checkout.doit("--continue")

    assert run.code == 2, "doit's code for tasks that could not run because another one failed"
    assert "exit code: 7" in run.err or "so bad" in run.err
    assert "image:arr-training: was not done, since image:arr-base failed" in run.err
    assert "Traceback" not in run.text


def test_a_secret_reaches_the_build_and_nothing_else(checkout: Checkout) -> None:
    secret = "planted-7f3a91"
    checkout.edit("pipeline.yaml", "arr-base: {parent", "arr-base: {secrets: {token: {env: THE_TOKEN}}, parent")
    checkout.edit(
        "images/arr-base/Dockerfile",
        "COPY config/ /config/",
        "RUN --mount=type=secret,id=token,uid=10001 wc -c </run/secrets/token >/tmp/length\nCOPY config/ /config/",
    )

    run = checkout.doit("image:arr-base", THE_TOKEN=secret)

    assert run.code == 0, run.text
    ref = f"{checkout.name}/arr-base"
    image = next(r for r in checkout.refs() if r.startswith(ref))
    assert docker("run", "--rm", image, "cat", "/tmp/length").strip() == str(len(secret))
    saved = subprocess.run(["docker", "save", image], check=True, capture_output=True).stdout
    kept = b"".join(path.read_bytes() for path in (checkout.root / ".imagetiers").rglob("*") if path.is_file())
    assert secret.encode() not in saved
    assert secret.encode() not in kept
    assert secret not in docker("image", "inspect", image) + docker("history", "--no-trunc", image)


def test_on_a_terminal_it_is_shown_while_it_lasts(checkout: Checkout) -> None:
    ours, theirs = pty.openpty()
    with subprocess.Popen(
        [sys.executable, "-m", "doit", "compile"],
        cwd=checkout.root,
        env={**os.environ, "PYTHONPATH": str(REPO), "COLUMNS": "120", "TERM": "xterm"},
        stdout=theirs,
        stderr=theirs,
    ) as process:
        os.close(theirs)
        shown = b""
        with contextlib.suppress(OSError):  # EIO: the terminal's other side is closed
            while piece := os.read(ours, 65536):
                shown += piece
    os.close(ours)

    assert process.returncode == 0, shown
    text = re.sub(rb"\x1b\[[0-9;?]*[a-zA-Z]", b"", shown).decode()
    assert re.search(r"compile:pytorch-clean  [1-6]/6  .*after \d+ s  .*━.*Building \w+", text)
    assert "0 of 6 compiler calls were hits" in text
