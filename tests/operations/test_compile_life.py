"""compile:<tier> from beginning to end, however it ends; the engine is a table, the cache, the locks and the files are real."""

from __future__ import annotations

import json
import shutil
import threading
import time
from pathlib import Path

import pytest

from imagetiers.ccache.namespace import Namespace
from imagetiers.config.layout import Layout
from imagetiers.errors import BuildError, EngineError, Interrupted
from imagetiers.state.wheels import BEGAN
from tests.conftest import HERE, edit
from tests.operations.engine import STOPPED, TOOLCHAIN, Compile, Machine, compiles, machine
from tests.waiting import wait_until

WHEELS = {"tiny-1-py3-none-any.whl": "a wheel"}


@pytest.fixture
def here(tiny: Layout, tmp_path: Path) -> Machine:
    return machine(tiny, tmp_path / "cache")


@pytest.fixture
def elsewhere(here: Machine, tmp_path: Path) -> Machine:
    """Another machine with the same cache."""
    shutil.copytree(HERE / "repos" / "tiny", tmp_path / "elsewhere")
    return here.another(Layout(tmp_path / "elsewhere"))


def lose_wheels(one: Machine) -> None:
    shutil.rmtree(one.layout.work / "wheels", ignore_errors=True)
    for blob in list(one.store.list("wheels/")):
        one.store.delete(blob.name)


def entries(one: Machine) -> int:
    (folder,) = {blob.name.split("/")[1] for blob in one.store.list("ccache/")}
    return len(Namespace(one.store, folder).load().view.live)


def test_it_is_compiled_once_and_kept(here: Machine) -> None:
    here.compile()
    here.compile()

    assert here.engine.made == ["builder", "compile"]
    assert here.wheels() == WHEELS
    assert here.engine.started == {}, "its containers are removed"
    assert "done in" in here.said
    assert "0 of 4 compiler calls were hits" in here.said
    (record,) = [json.loads(here.store.read(blob.name)[0]) for blob in here.store.list("records/")]
    assert (record["kind"], record["key"], record["hits"], record["misses"]) == ("compile", here.step.key, 0, 4)


def test_asked_for_again_it_is_compiled_warm(here: Machine) -> None:
    here.compile()
    here.compile(force=True)

    assert here.engine.made == ["builder", "compile", "compile"]
    assert "4 of 4 compiler calls were hits" in here.said


def test_wheels_are_published_and_restored(here: Machine, elsewhere: Machine) -> None:
    here.compile()
    elsewhere.compile()

    assert elsewhere.engine.made == []
    assert elsewhere.wheels() == WHEELS
    assert f"wheels {here.step.key[:12]} taken from {here.store.url}" in elsewhere.said


def test_damaged_wheels_count_as_absent(here: Machine) -> None:
    here.compile()
    wheel = here.layout.wheels(here.step.key) / "tiny-1-py3-none-any.whl"
    wheel.write_text("half")
    here.compile()

    assert "is not what was made: 4 bytes: the wheels count as absent" in here.said
    assert here.wheels() == WHEELS
    assert here.engine.made == ["builder", "compile"], "the cache has them"


def test_what_ccache_has_is_pulled_on_another_machine(here: Machine, elsewhere: Machine) -> None:
    here.compile()
    lose_wheels(here)
    elsewhere.compile()

    assert "ccache: 4 entries restored" in elsewhere.said
    assert "4 of 4 compiler calls were hits" in elsewhere.said
    assert "ccache push: nothing new" in elsewhere.said


def test_what_is_compiled_is_in_the_cache_while_it_still_runs(here: Machine) -> None:
    edit("pipeline.yaml", "{max_size: 100M}", "{max_size: 100M, checkpoint_minutes: 0.001}")(here.layout)
    seen: list[int] = []

    def slow(job: Compile) -> int:
        job.call(1)
        wait_until(lambda: any("ccache checkpoint: pushed" in line for line in here.console.lines))
        seen.append(entries(here))
        return compiles(job)

    here.engine.script = slow
    here.compile()

    assert seen == [1]
    assert entries(here) == 4


def test_a_failure_names_its_first_error_and_the_log_and_keeps_what_was_compiled(
    here: Machine, elsewhere: Machine
) -> None:
    def broken(job: Compile) -> int:
        job.call(1)
        job.call(2)
        job.say("three.c:7:1: error: expected ';'")
        job.say("ninja: build stopped: subcommand failed.")
        return 1

    here.engine.script = broken
    with pytest.raises(BuildError) as caught:
        here.compile()

    text = str(caught.value)
    assert "compile:pytorch-clean: the compile step ended with exit code 1; the first error" in text
    assert text.index("three.c:7:1: error: expected ';'") < text.index("build stopped")
    assert f"the full log is {here.log}" in text
    assert here.log.read_text().startswith("[1/4] Building 1.o\n")
    assert here.engine.started == {}
    assert here.wheels() == {}
    elsewhere.engine.script = compiles
    elsewhere.compile()
    assert "2 of 4 compiler calls were hits" in elsewhere.said


def test_a_compiler_that_the_kernel_has_killed_is_told_as_such(here: Machine) -> None:
    def killed(job: Compile) -> int:
        job.say("c++: fatal error: Killed signal terminated program cc1plus")
        return 1

    here.engine.script = killed
    with pytest.raises(BuildError, match="Killed signal") as caught:
        here.compile()

    assert "job_memory" in str(caught.value)


def test_a_compiler_that_found_no_memory_is_named_and_has_more_the_next_time(here: Machine) -> None:
    def starved(job: Compile) -> int:
        job.ran("/b/huge.o", 20.0, 600 << 20, outcome="starved")
        job.ran("/b/huge.o", 30.0, 900 << 20, outcome="starved")
        job.ran("/b/large.o", 20.0, 500 << 20, outcome="starved")
        job.ran("/b/large.o", 9.0, 700 << 20)
        return 1

    here.engine.script = starved
    with pytest.raises(BuildError) as caught:
        here.compile()

    assert "the memory was not enough for huge.cpp: its compiler was killed at 900 MiB" in str(caught.value)
    assert "large.cpp" not in str(caught.value), "it was compiled after all"

    here.engine.script = compiles
    here.compile()

    known = here.engine.files["imagetiers/known"].decode()
    assert f"/b/huge.o\t30.000\t{1800 * 9 // 8 << 20}\n" in known
    assert f"/b/large.o\t9.000\t{(700 << 20) * 9 // 8}\n" in known


def test_hits_are_counted_in_the_seconds_that_they_saved(here: Machine) -> None:
    edit("pipeline.yaml", "{max_size: 100M}", "{max_size: 100M, min_hit_rate: 0.6}")(here.layout)

    def first(job: Compile) -> int:
        for source, seconds in ((1, 1.0), (2, 1.0), (3, 2.0)):
            job.call(source, seconds)
        job.make_wheel()
        return 0

    def second(job: Compile) -> int:
        for source in (1, 2, 3):
            job.call(source)
        job.call(4, 36.0)
        job.make_wheel()
        return 0

    here.engine.script = first
    here.compile()
    here.engine.script = second
    here.compile(force=True)

    assert "3 of 4 compiler calls were hits (75.0 %); 4.0 of 40 s of compiling saved (10.0 %)" in here.said
    assert "cold, below the 60 % of min_hit_rate: 3 of 4 compiler calls were hits (75.0 %); 4.0 of 40 s" in here.said
    records = [json.loads(here.store.read(blob.name)[0]) for blob in here.store.list("records/pytorch-clean/compile/")]
    last = max(records, key=lambda record: record["saved_seconds"])
    assert (last["saved_seconds"], last["compiled_seconds"]) == (4.0, 36.0)
    assert last["classes"][0]["name"] == "C and C++"


def test_a_container_that_the_kernel_has_killed_is_told_as_such(here: Machine) -> None:
    here.engine.script = lambda _job: 137
    with pytest.raises(BuildError, match=r"exit code 137 \(killed; out of memory\?\)") as caught:
        here.compile()

    assert "job_memory" in str(caught.value)


def until_stopped(job: Compile) -> int:
    job.call(1)
    assert job.stopped.wait(30)
    return STOPPED


def test_an_interrupted_compile_is_stopped_and_keeps_what_it_has(here: Machine, elsewhere: Machine) -> None:
    def interrupted(job: Compile) -> int:
        threading.Timer(0.05, here.cancel.request).start()
        return until_stopped(job)

    here.engine.script = interrupted
    with pytest.raises(Interrupted, match="run doit again: ccache has kept what was done"):
        here.compile()

    assert here.engine.started == {}
    elsewhere.engine.script = compiles
    elsewhere.compile()
    assert "1 of 4 compiler calls were hits" in elsewhere.said


def test_a_compile_that_is_out_of_time_is_stopped_and_keeps_what_it_has(here: Machine) -> None:
    here.engine.script = until_stopped
    with pytest.raises(BuildError, match="was not done after 3 s and was stopped"):
        here.compile(seconds=3)

    assert here.engine.started == {}
    assert entries(here) == 1


def test_a_look_at_the_compilers_that_is_out_of_time_leaves_no_container(
    here: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    def hangs(container_id: str, _: object) -> int:
        here.engine.stops[container_id].wait(60)
        return STOPPED

    monkeypatch.setattr(here.engine, "follow", hangs)
    with pytest.raises(BuildError, match="was not done after 2 s and was stopped"):
        here.compile(seconds=2)
    assert here.engine.started == {}


@pytest.mark.parametrize("call", ["find_containers", "info", "start"])
def test_a_daemon_that_stops_answering_is_not_waited_for_longer_than_the_compile_may_take(
    here: Machine, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    let_go, began = threading.Event(), time.monotonic()
    monkeypatch.setattr(here.engine, call, lambda *_, **__: let_go.wait(60))
    with pytest.raises(BuildError, match="was not done after 2 s and was stopped"):
        here.compile(seconds=2)
    assert time.monotonic() - began < 30
    let_go.set()


def left_running(here: Machine) -> str:
    """Lose the engine in the middle of a compile; return the container that it left."""

    def lost(job: Compile) -> int:
        job.call(1)
        raise EngineError.of("docker", "the daemon is gone")

    script, here.engine.script = here.engine.script, lost
    with pytest.raises(EngineError, match="the compile may still run in its container"):
        here.compile()
    here.engine.script = script
    (left,) = here.engine.started
    return left


def test_a_compile_that_outlived_its_doit_is_adopted(here: Machine) -> None:
    left = left_running(here)
    here.compile()

    assert "resumes the compile that is still running from an earlier doit" in here.said
    assert here.engine.removed[-1] == left
    assert here.engine.started == {}
    assert here.wheels() == WHEELS
    (record,) = [json.loads(here.store.read(blob.name)[0]) for blob in here.store.list("records/")]
    assert record["change"] == "", "its seconds are not all of it"


def test_a_compile_that_has_ended_badly_meanwhile_is_not_adopted(here: Machine) -> None:
    left = left_running(here)
    here.engine.ended[left] = 1
    here.compile()

    assert "resumes" not in here.said
    assert left in here.engine.removed
    assert here.wheels() == WHEELS


def test_a_compile_without_its_folder_is_not_adopted(here: Machine) -> None:
    left = left_running(here)
    (here.layout.partial_wheels(here.step.key) / BEGAN).unlink()
    here.compile()

    assert "resumes" not in here.said
    assert left in here.engine.removed
    assert here.wheels() == WHEELS


def test_a_builder_that_cannot_be_built_ends_it_with_its_first_error(here: Machine) -> None:
    here.engine.failing = ("#7 [builder 2/4] RUN apt-get install gcc", "#7 1.0 E: Unable to locate package gcc")
    with pytest.raises(BuildError, match="Unable to locate package gcc") as caught:
        here.compile()

    assert "compile:pytorch-clean: builder image: docker buildx build ended with exit code 1" in str(caught.value)
    assert "builder-" in str(caught.value)
    assert here.engine.made == []


def test_a_cold_compile_is_explained(here: Machine) -> None:
    edit("pipeline.yaml", "{max_size: 100M}", "{max_size: 100M, min_hit_rate: 0.6}")(here.layout)
    here.compile()
    edit("pipeline.yaml", "GREETING: hello", "GREETING: bye")(here.layout)
    here.engine.script = anew
    here.compile()

    assert "cold, below the 60 % of min_hit_rate: 0 of 4" in here.said
    assert "GREETING=hello" in here.said
    assert "GREETING=bye" in here.said


def anew(job: Compile) -> int:
    """Compile what no cache knows."""
    for source in range(11, 15):
        job.call(source)
    job.make_wheel()
    return 0


def test_a_cold_compile_fails_where_strict_is_set_and_keeps_what_it_has(here: Machine) -> None:
    edit("pipeline.yaml", "{max_size: 100M}", "{max_size: 100M, min_hit_rate: 0.6, strict: true}")(here.layout)
    here.compile()
    edit("pipeline.yaml", "GREETING: hello", "GREETING: bye")(here.layout)
    here.engine.script = anew
    with pytest.raises(BuildError, match="what it compiled is in the cache now"):
        here.compile()
    assert here.wheels() == {}
    assert here.engine.started == {}

    here.compile()
    assert "4 of 4 compiler calls were hits" in here.said
    assert here.wheels() == WHEELS


def test_without_ccache_strict_refuses_before_anything_is_compiled(here: Machine) -> None:
    edit("pipeline.yaml", "{max_size: 100M}", "{max_size: 100M, min_hit_rate: 0.6, strict: true}")(here.layout)
    here.engine.toolchain = TOOLCHAIN[1:]
    with pytest.raises(BuildError, match="has no ccache on its PATH"):
        here.compile()

    assert "compile" not in here.engine.made


def test_a_compile_that_leaves_no_wheel_fails(here: Machine) -> None:
    def nothing(job: Compile) -> int:
        job.call(1)
        (job.wheels / "notes.txt").write_text("not a wheel")
        return 0

    here.engine.script = nothing
    with pytest.raises(BuildError, match=r"left no wheel in /wheels, only notes.txt \(not \*.whl\)"):
        here.compile()

    assert here.engine.started == {}


def test_secrets_go_through_stdin_and_are_masked(here: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    edit("pipeline.yaml", "verify: {params", "secrets: {token: {env: TOKEN}}\n    verify: {params")(here.layout)
    monkeypatch.setenv("TOKEN", "open-sesame")

    def telling(job: Compile) -> int:
        job.say("the token is open-sesame")
        return compiles(job)

    here.engine.script = telling
    here.compile()

    sent = [stdin for stdin in here.engine.stdins.values() if stdin]
    assert sent == [b"secret 11 token\nopen-sesameend\n"]
    assert "open-sesame" not in here.log.read_text()
    assert "the token is" in here.log.read_text()
