"""What is typed: variables, variants, folders, and where output goes."""

from __future__ import annotations

import json
import os
import re
import stat
import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from imagetiers.config.groups import TASKS
from tests.engine.conftest import REPO, Checkout

NO_DAEMON = (
    "docker: no Docker daemon is here (there is no socket)\n"
    "  hint: systemctl start docker, or let DOCKER_HOST name another; https://docs.docker.com/engine/install/\n"
)


def test_a_misspelt_variable_is_an_error(offline: Checkout) -> None:
    run = offline.doit("varaint=a100", "colour=blue", "list")

    assert (run.code, run.out) == (3, "")
    assert run.err == (
        "ERROR: 2 problems in the command line; nothing was run\n"
        "varaint=a100: there is no variable 'varaint'\n  hint: did you mean 'variant'?\n"
        "colour=blue: there is no variable 'colour'\n  hint: variables: branch, trust, variant\n"
    )


def test_a_variable_of_the_pipeline(offline: Checkout) -> None:
    offline.edit("pipeline.yaml", "GREETING: hello", "GREETING: $(var.greeting)")
    offline.edit("pipeline.yaml", "tiers:", "variables: {greeting: hello, unused: 1}\ntiers:")

    def key(*given: str) -> str:
        run = offline.doit(*given, "plan", "--json", "-")
        assert run.code == 0, run.text
        found: str = json.loads(run.out)["tiers"][0]["key"]
        return found

    assert key() == key("greeting=hello") == key("unused=2") != key("greeting=bye") == key("greeting=bye")
    misspelt, wrong = offline.doit("greting=x", "list"), offline.doit("unused=x", "list")
    assert (misspelt.code, misspelt.out) == (3, "")
    assert misspelt.err == (
        "ERROR: one problem in the command line; nothing was run\n"
        "greting=x: there is no variable 'greting'\n  hint: did you mean 'greeting'?\n"
    )
    assert (wrong.code, wrong.out) == (3, "")
    assert wrong.err.endswith("\nunused=x: must be a whole number\n  hint: such as 4\n")


def test_no_group_has_the_name_of_a_task_or_command(offline: Checkout) -> None:
    listed = {line.partition(" ")[0].partition(":")[0] for line in offline.doit("list").out.splitlines()}
    helped = re.findall(r"^ +\S+ (\S+) ", offline.doit("help").out, re.MULTILINE)
    assert len(helped) > 5

    assert (listed | set(helped)) - TASKS == set()


def test_a_group_is_a_task(offline: Checkout) -> None:
    offline.edit("pipeline.yaml", "variants:", "groups: {lower: [arr-base, arr-training], more: [lower]}\nvariants:")

    listed, info = offline.doit("list"), offline.doit("info", "more")
    assert re.search(r"^lower +image and verify of arr-base, arr-training$", listed.out, re.MULTILINE)
    assert "image:arr-base, image:arr-training, verify:arr-base, verify:arr-training" in info.out
    assert offline.doit("forget", "more").code == 0
    forgotten = sorted(path.name for path in (offline.root / ".imagetiers/state/forgotten").iterdir())
    assert forgotten == ["image:arr-base", "image:arr-training", "verify:arr-base", "verify:arr-training"]

    # Of files there is nothing to verify, nor to push.
    offline.edit("pipeline.yaml", "arr-training: {", "arr-training: {output: {type: local, dest: made}, ")
    for registry in ("", "registry: localhost:1/x\n"):
        text = (offline.root / "pipeline.yaml").read_text()
        (offline.root / "pipeline.yaml").write_text(registry + text)
        info = offline.doit("info", "more")
        wanted = "verify:arr-base" if not registry else "push:arr-base"
        assert re.search(rf"^after +: image:arr-training, (image:arr-base, )?{wanted}$", info.out, re.MULTILINE), (
            info.text
        )


@pytest.mark.parametrize(
    ("words", "meant"),
    [
        (("verify", "arr-base"), "verify:arr-base"),
        (("image", "verify", "arr-base"), "image:arr-base"),
        (("arr-base",), "image:arr-base"),
    ],
)
def test_a_tier_alone_is_no_task(words: tuple[str, ...], meant: str, offline: Checkout) -> None:
    run = offline.doit(*words)

    assert (run.code, run.out) == (3, "")
    assert run.err == f"ERROR: there is no task 'arr-base'\n  hint: did you mean '{meant}'?\n"


@pytest.mark.parametrize(
    "words", [("--json", "pytorch-clean"), ("pytorch-clean", "--json"), ("--json", "--", "pytorch-clean")]
)
def test_options_may_stand_behind_what_a_task_is_asked_of(words: tuple[str, ...], offline: Checkout) -> None:
    told = json.loads(offline.doit("explain", *words).out)

    assert [tier["tier"] for tier in told["tiers"]] == ["pytorch-clean"]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("explain", "pytorch-clean", "--jsn"), "Task: option --jsn not recognized"),
        (("watch", "arr-base", "--run"), "Task: option --run requires argument"),
        (("watch", "arr-base", "--run", "true", "arr-training"), "doit watch: --run needs one tier"),
        (("-n", "x", "plan"), "-n: 'x' is not a whole number"),
    ],
)
def test_wrong_options(words: tuple[str, ...], said: str, offline: Checkout) -> None:
    run = offline.doit(*words)

    assert (run.code, run.out) == (3, "")
    assert run.err.startswith(f"ERROR: one problem in the command line; nothing was run\n{said}")


def test_a_wrong_variant_is_told_with_what_is_wrong_with_the_base(offline: Checkout) -> None:
    offline.edit("pipeline.yaml", "args: {GREETING: hello}", "arg: {GREETING: hello}")

    run = offline.doit("variant=shoutin", "list")

    assert run.code == 3
    assert "variant=shoutin: there is no such variant\n  hint: did you mean 'shouting'?" in run.err
    assert "pipeline.yaml:7:5: tiers.pytorch-clean.arg: there is no such key" in run.err
    assert run.err.count("there is no such key") == 1


def test_problems_of_base_and_variants_are_told_together(offline: Checkout) -> None:
    offline.edit("pipeline.yaml", "args: {GREETING: hello}", "arg: {GREETING: hello}")
    offline.edit("pipeline.yaml", "{args: {GREETING: HELLO}}", "{args: {GREETING: 1.0}}")

    for args in (("check",), ("variant=shouting", "check")):
        run = offline.doit(*args)
        assert run.code == 3
        assert run.err.count("tiers.pytorch-clean.arg: there is no such key") == 1
        assert run.err.count("variant=shouting: pipeline.yaml:14:") == 1, run.err


def test_names_that_are_not_utf8_are_refused_before_anything(offline: Checkout) -> None:
    """With another encoding a key would hold other names, or the name of a folder could not be made."""
    ascii_names: dict[str, Any] = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    offline.edit("pipeline.yaml", "name: tiny", "name: tiny\ncache: .imagetiers/grün")
    for args in (("check",), ("list",), ("plan",), ("status",), ("explain",), ("image",), ("clean",)):
        run = offline.doit(*args, **ascii_names)

        assert (run.code, run.out) == (3, "")
        assert run.err == (
            "ERROR: one problem in the environment; nothing was run\n"
            "the locale: Python reads and writes names of files as ascii here, and keys hold them as UTF-8\n"
            "  hint: set PYTHONUTF8=1, or a locale such as LC_ALL=C.UTF-8\n"
        )
    assert not (offline.root / ".imagetiers").exists()


@pytest.mark.parametrize(
    "env", [{"LC_ALL": "C"}, {"LC_ALL": "C", "PYTHONUTF8": "1"}, {"LC_ALL": "C.UTF-8", "PYTHONUTF8": "0"}]
)
def test_names_beyond_ascii_give_the_same_keys_in_each_locale(env: dict[str, str], offline: Checkout) -> None:
    """Also where the terminal has ASCII alone."""
    offline.edit("pipeline.yaml", "name: tiny", "name: tiny\ncache: .imagetiers/grün")
    offline.edit("pipeline.yaml", "GREETING: hello", "GREETING: grüß")
    (offline.root / "images/arr-base/config/grün.txt").write_text("grün\n", encoding="utf-8")

    def keys(plan: dict[str, dict[str, object]]) -> list[object]:
        return [tier["key"] for tier in plan.values()]

    inner = replace(offline, env={**offline.env, **env, "PYTHONIOENCODING": "ascii"})
    run = inner.doit("plan", "--json", "pläne.json")

    assert run.code == 0, run.text
    written = json.loads((offline.root / "pläne.json").read_text(encoding="utf-8"))
    assert [tier["key"] for tier in written["tiers"]] == keys(offline.plan())
    assert "config/grün.txt" in written["tiers"][1]["manifest"]["files"]
    for verb in ("check", "status", "explain", "list"):
        assert inner.doit(verb).code == 0


def test_a_folder_without_dodo_is_told_where_to_look(offline: Checkout) -> None:
    inner = Checkout(offline.root / "images", offline.name, offline.env)

    for args in (("status",), ("status", "-k"), ("list",), ("clean",)):
        run = inner.doit(*args)
        assert (run.code, run.out) == (3, "")
        assert run.err == (
            f"ERROR: {inner.root}: there is no dodo.py\n"
            "  hint: doit -k … looks for it in the folders above, doit -f FILE … takes another; both stand before the task\n"
        )


@pytest.mark.parametrize(
    ("variable", "values", "said"),
    [
        ("IMAGETIERS_CACHE_TIMEOUT", ("x", "", "nan", "inf", "-1"), "is not a number of seconds\n  hint: such as 120"),
        ("IMAGETIERS_CACHE_PATIENCE", ("x", "", "nan", "inf", "-1"), "is not a number of seconds\n  hint: such as 120"),
        ("IMAGETIERS_VOLUME", ("x", "x:y", ":/x", "a b:/x"), "a Docker volume and where it is\n  hint: such as"),
    ],
)
def test_wrong_variables_of_the_environment(
    variable: str, values: tuple[str, ...], said: str, offline: Checkout
) -> None:
    for value in values:
        env: dict[str, Any] = {variable: value}
        run = offline.doit("check", **env)
        assert (run.code, run.out, said in run.err) == (3, "", True), run.text


def test_wrong_values_of_variables(offline: Checkout) -> None:
    for word, hint in (
        ("trust=Trusted", "did you mean 'trusted'?"),
        ("trust=", "either: "),
        ("branch=-x", "begin with"),
    ):
        run = offline.doit(word, "check")
        assert (run.code, run.out) == (3, "")
        assert f"\n{word}: is n" in run.err
        assert f"\n  hint: {hint}" in run.err


@pytest.mark.parametrize("flag", [("-k",), ("-f", "../../dodo.py")])
def test_from_a_subfolder(flag: tuple[str, ...], offline: Checkout) -> None:
    below = offline.root / "images" / "arr-base"
    inner = Checkout(below, offline.name, offline.env)

    listed = inner.doit(*flag, "list")
    planned = inner.doit(*flag, "plan", "--json", "plan.json")
    info = inner.doit("info", *flag, "image:nope")

    assert (listed.code, planned.code) == (0, 0), listed.text + planned.text
    assert json.loads((below / "plan.json").read_text())["pipeline"] == "tiny"
    assert (info.code, info.err.strip()) == (3, "ERROR: there is no task 'image:nope'; doit list --all shows them")


def test_json_goes_through_links_and_keeps_the_mode(offline: Checkout, tmp_path: Path) -> None:
    target = tmp_path / "kept.json"
    target.write_text("old")
    target.chmod(0o640)
    link = tmp_path / "link.json"
    link.symlink_to(target.name)
    dangling = tmp_path / "dangling.json"
    dangling.symlink_to("made.json")

    assert offline.doit("plan", "--json", str(link)).code == 0
    assert offline.doit("plan", "--json", str(dangling)).code == 0

    assert link.is_symlink()
    assert dangling.is_symlink()
    assert json.loads(target.read_text())["version"] == 1
    assert stat.S_IMODE(target.stat().st_mode) == 0o640
    assert json.loads((tmp_path / "made.json").read_text())["version"] == 1
    assert {path.name for path in tmp_path.iterdir()} == {
        "checkout", "kept.json", "link.json", "dangling.json", "made.json",
    }  # fmt: skip


def test_json_goes_into_a_pipe_and_a_device_as_they_are(offline: Checkout, tmp_path: Path) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    got: list[str] = []
    reader = threading.Thread(target=lambda: got.append(fifo.read_text()))
    reader.start()

    assert offline.doit("plan", "--json", str(fifo)).code == 0
    reader.join(10)
    assert json.loads(got[0])["version"] == 1
    assert stat.S_ISFIFO(fifo.stat().st_mode)
    assert json.loads(offline.doit("plan", "--json", "/dev/stdout").out)["version"] == 1
    assert offline.doit("plan", "--json", "/dev/null").code == 0
    assert Path("/dev/null").is_char_device()
    assert Path("/dev/stdout").is_symlink()


def test_json_to_a_redirected_standard_output_loses_nothing(offline: Checkout, tmp_path: Path) -> None:
    out = tmp_path / "out"
    with out.open("w") as file:
        file.write("before\n")
        file.flush()
        done = subprocess.run(
            [sys.executable, "-m", "doit", "check", "plan", "--json", "/dev/stdout"],
            cwd=offline.root, stdout=file, check=False, env={**os.environ, "PYTHONPATH": str(REPO), **offline.env},
        )  # fmt: skip

    assert done.returncode == 0
    before, checked, document = out.read_text().split("\n", 2)
    assert before == "before"
    assert checked.startswith("pipeline.yaml: 3 tiers are right")
    assert json.loads(document)["version"] == 1


@pytest.mark.parametrize(("name", "said"), [("", "Is a directory"), ("none/plan.json", "No such file or directory")])
def test_json_that_cannot_be_written_is_an_error(name: str, said: str, offline: Checkout, tmp_path: Path) -> None:
    to = tmp_path / name

    run = offline.doit("plan", "--json", str(to))

    assert (run.code, run.err) == (1, f"--json {to}: cannot be written: {said}\n")


def test_a_reader_that_goes_early_is_no_trouble(offline: Checkout) -> None:
    for args, code in ((("info", "image:arr-base"), 1), (("list",), 0), (("plan", "--json", "-"), 0)):
        process = offline.start(*args)
        assert process.stdout is not None
        process.stdout.close()
        with process:
            assert process.stderr is not None
            assert process.stderr.read() == ""
        assert process.returncode == code


def test_clean_without_a_daemon_fails_and_says_so_once(offline: Checkout) -> None:
    run = offline.doit("clean")

    assert (run.code, run.out, run.err) == (1, "", NO_DAEMON)


def test_what_plan_shows_as_resolved_is_the_same_pipeline(offline: Checkout) -> None:
    offline.edit("pipeline.yaml", "GREETING: hello", "GREETING: $(var.greeting)")
    offline.edit("pipeline.yaml", "tiers:", "variables: {greeting: hello}\ntiers:")

    def keys(*words: str) -> list[str]:
        run = offline.doit(*words, "plan", "--json", "-")
        assert run.code == 0, run.text
        return [tier["key"] for tier in json.loads(run.out)["tiers"]]

    before = keys("variant=shouting", "greeting=bye")
    shown = offline.doit("variant=shouting", "greeting=bye", "plan", "--resolved")
    refused = offline.doit("plan", "--resolved", "--why", "--json", "-")

    assert shown.out.startswith("# pipeline.yaml with variant=shouting, greeting=bye\nversion: 1\n")
    (offline.root / "pipeline.yaml").write_text(shown.out)
    assert keys() == before
    assert (refused.code, refused.out) == (3, "")
    assert "--resolved: does not go together with --json, --why" in refused.err


def test_bake_builds_nothing_and_says_so(offline: Checkout) -> None:
    run = offline.doit("bake")

    assert (run.code, run.out) == (3, "")
    assert "doit bake: builds nothing" in run.err
    assert "hint: doit builds the images; doit bake --print --out bake.json" in run.err
    assert json.loads(offline.doit("bake", "--print").out)["group"] == {
        "default": {"targets": ["pytorch-clean", "arr-base", "arr-training"]}
    }


@pytest.mark.parametrize("registry", ["", "registry: host.example\n"])
def test_a_group_may_hold_what_makes_no_image(registry: str, offline: Checkout) -> None:
    offline.edit("pipeline.yaml", "tiers:", f"{registry}groups: {{release: [arr-base, report]}}\ntiers:")
    offline.edit(
        "pipeline.yaml", "variants:", "  report: {parent: arr-base, output: {type: local, dest: out}}\nvariants:"
    )
    folder = offline.root / "images" / "report"
    folder.mkdir()
    (folder / "Dockerfile").write_text("ARG PARENT\nFROM ${PARENT}\n")
    (folder / ".image-manifest").write_text("")

    listed = offline.doit("list", "--all", "--deps")

    assert listed.code == 0, listed.text
    assert " of arr-base, report" in listed.out
    assert "image:report" in listed.out

    watched = offline.doit("watch", "report", "--run", "true")
    assert (watched.code, watched.out) == (3, "")
    assert "doit watch: the tier report makes files and no image, in which --run could run" in watched.err
