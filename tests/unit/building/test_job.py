"""The launcher in front of compilers, compiled and run for real; and its schedule over the objects of a CUDA compile."""

from __future__ import annotations

import csv
import os
import shutil
import signal
import struct
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

import imagetiers
from imagetiers.planning.objects import Job, KnownObject, KnownObjects, read_jobs
from tests.conftest import HERE
from tests.waiting import wait_until

SOURCE = Path(imagetiers.__file__).parent / "building" / "job.c"
OBJECTS = HERE.parent / "benchmarks" / "results" / "cuda_objects.csv"
SLOT = struct.Struct("IIIIQQd")
WAITING, RUNNING = 1, 2
GIB = 1 << 30

pytestmark = pytest.mark.skipif(shutil.which("cc") is None, reason="no C compiler")


@pytest.fixture(scope="session")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    built = tmp_path_factory.mktemp("job") / "job"
    subprocess.run(["cc", "-O1", "-Wall", "-Wextra", "-Werror", "-o", built, SOURCE], check=True)
    return built


def fnv(data: bytes) -> str:
    value = 14695981039346656037
    for byte in data:
        value = (value ^ byte) * 1099511628211 % 2**64
    return f"{value:016x}"


@dataclass
class Jobs:
    """A compile's jobs: what they share, and those that were started. Each waits for the end of its own `gate`."""

    folder: Path
    program: Path
    room: int
    known: KnownObjects = field(default_factory=KnownObjects)
    started: dict[str, subprocess.Popen[str]] = field(default_factory=dict)

    def environment(self) -> dict[str, str]:
        (self.folder / "known").write_bytes(self.known.table())
        return {
            **os.environ,
            "IMAGETIERS_JOB_ROOM": str(self.room),
            "IMAGETIERS_JOB_MEMORY": "100",
            "IMAGETIERS_JOB_KNOWN": str(self.folder / "known"),
            "IMAGETIERS_JOB_LOG": str(self.folder / "log"),
        }

    def start(self, name: str) -> None:
        """Start a job that says so in `ran` and goes on when its gate is opened."""
        os.mkfifo(self.folder / name)
        script = f"echo {name} >>ran; read line <{name}"
        command = [str(self.program), "sh", "-c", script, "-o", f"{name}.o"]
        self.started[name] = subprocess.Popen(command, cwd=self.folder, env=self.environment(), text=True)

    def finish(self, name: str) -> None:
        (self.folder / name).write_text("\n")
        assert self.started.pop(name).wait() == 0

    def ran(self) -> list[str]:
        path = self.folder / "ran"
        return path.read_text().split() if path.exists() else []

    def states(self) -> list[int]:
        path = self.program.with_name("job.table")
        data = path.read_bytes() if path.exists() else b""
        slots = (SLOT.unpack_from(data, 8 + at * SLOT.size) for at in range((len(data) - 8) // SLOT.size))
        return [slot[0] for slot in slots]

    def until(self, condition: Callable[[], bool]) -> None:
        wait_until(condition, lambda: (self.ran(), self.states()[:8]), pause=0.002)

    def until_ran(self, name: str) -> None:
        self.until(lambda: name in self.ran())

    def until_waiting(self, count: int) -> None:
        self.until(lambda: self.states().count(WAITING) == count)

    def log(self) -> list[Job]:
        return list(read_jobs((self.folder / "log").read_text().splitlines()))


@pytest.fixture
def jobs(tmp_path: Path, program: Path) -> Iterator[Jobs]:
    program.with_name("job.table").unlink(missing_ok=True)
    made = Jobs(tmp_path, program, room=1000)
    yield made
    for process in made.started.values():
        process.kill()
        process.wait()


def knows(jobs: Jobs, name: str, seconds: float, memory: int) -> None:
    known = {**jobs.known.objects, f"{jobs.folder}/{name}.o": KnownObject(seconds, memory, 0.0)}
    jobs.known = KnownObjects(known)


def test_a_compiler_runs_as_it_would_without_and_is_written_down(jobs: Jobs) -> None:
    (jobs.folder / "a.c").write_text("int main(void) { return 0; }\n")
    argv = [str(jobs.program), "sh", "-c", "echo out; echo err >&2; exit 3", "-c", "a.c", "-o", "a\tb.o"]
    done = subprocess.run(argv, cwd=jobs.folder, env=jobs.environment(), capture_output=True, text=True, check=False)

    assert (done.returncode, done.stdout, done.stderr) == (3, "out\n", "err\n")
    (job,) = jobs.log()
    assert (job.outcome, job.object, job.source) == ("failed", f"{jobs.folder}/a b.o", "a.c")

    subprocess.run([jobs.program, "cc", "-c", "a.c", "-o", "a.o"], cwd=jobs.folder, env=jobs.environment(), check=True)
    job = jobs.log()[1]
    assert (job.outcome, job.object, job.source, job.lease) == ("done", f"{jobs.folder}/a.o", "a.c", 100)
    assert job.flags == "cc -c"
    assert job.source_hash == fnv(b"int main(void) { return 0; }\n")
    assert job.peak > 1 << 20
    assert job.seconds > 0


def test_a_signal_reaches_the_compiler_and_is_how_the_launcher_ends(jobs: Jobs) -> None:
    jobs.start("a")
    jobs.until(lambda: jobs.ran() == ["a"])
    process = jobs.started.pop("a")
    process.send_signal(signal.SIGTERM)
    assert process.wait() == -signal.SIGTERM


def test_what_has_no_room_waits_and_the_longest_goes_first(jobs: Jobs) -> None:
    for name, seconds, memory in (("first", 1, 800), ("short", 1, 500), ("long", 9, 500), ("small", 2, 40)):
        knows(jobs, name, seconds, memory)
    jobs.start("first")
    jobs.until(lambda: jobs.ran() == ["first"])
    jobs.start("short")
    jobs.until_waiting(1)
    jobs.start("long")
    jobs.until_waiting(2)
    jobs.start("small")  # an eighth more than 40 fits beside 900
    jobs.until(lambda: jobs.ran() == ["first", "small"])
    jobs.finish("small")
    jobs.finish("first")
    jobs.until(lambda: jobs.ran() == ["first", "small", "long"])
    jobs.until_waiting(1)
    jobs.finish("long")
    jobs.until(lambda: jobs.ran()[-1] == "short")
    jobs.finish("short")


def test_what_is_larger_than_the_room_runs_alone(jobs: Jobs) -> None:
    knows(jobs, "huge", 1, 5000)
    jobs.start("small")
    jobs.until(lambda: jobs.ran() == ["small"])
    jobs.start("huge")
    jobs.until_waiting(1)
    jobs.start("other")
    jobs.until_waiting(2)
    jobs.finish("small")
    jobs.until(lambda: jobs.ran() == ["small", "huge"])
    jobs.until_waiting(1)
    jobs.finish("huge")
    jobs.finish("other")


def test_a_job_that_is_killed_gives_back_its_memory(jobs: Jobs) -> None:
    knows(jobs, "first", 1, 800)
    knows(jobs, "second", 1, 800)
    jobs.start("first")
    jobs.until(lambda: jobs.ran() == ["first"])
    jobs.start("second")
    jobs.until_waiting(1)
    process = jobs.started.pop("first")
    process.kill()
    process.wait()
    jobs.until(lambda: jobs.ran() == ["first", "second"])
    jobs.finish("second")


def test_nobody_is_overtaken_for_ever(jobs: Jobs) -> None:
    knows(jobs, "holder", 1, 800)
    knows(jobs, "patient", 1, 300)
    for number in range(20):
        knows(jobs, f"n{number}", 50, 80)
    jobs.start("holder")
    jobs.until(lambda: jobs.ran() == ["holder"])
    jobs.start("patient")
    jobs.until_waiting(1)
    for number in range(16):
        jobs.start(f"n{number}")
        jobs.until_ran(f"n{number}")
        jobs.finish(f"n{number}")
    jobs.start("n16")
    jobs.until_waiting(2)
    jobs.finish("holder")
    jobs.until(lambda: {"patient", "n16"} <= set(jobs.ran()))
    jobs.finish("patient")
    jobs.finish("n16")


def test_a_job_within_a_job_has_its_lease(jobs: Jobs) -> None:
    knows(jobs, "a", 1, 2000)
    argv = [str(jobs.program), str(jobs.program), "sh", "-c", "exit 4", "-o", "a.o"]
    assert subprocess.run(argv, cwd=jobs.folder, env=jobs.environment(), check=False).returncode == 4


def test_the_schedule_over_the_objects_of_a_cuda_compile(tmp_path: Path) -> None:
    simulate = tmp_path / "simulate"
    subprocess.run(["cc", "-O1", "-o", simulate, Path(__file__).with_name("simulate.c")], check=True)
    with OBJECTS.open() as file:
        rows = [(float(row["wall_seconds"]), int(row["peak_mib"]) << 20) for row in csv.DictReader(file)]
    text = "".join(f"{seconds} {peak + peak // 8} {peak}\n" for seconds, peak in rows)

    def run(room: int, window: int, guess: int) -> tuple[int, int, int]:
        argv = [str(simulate), str(room), str(window), str(guess)]
        told = subprocess.run(argv, input=text, capture_output=True, text=True, check=True).stdout.split()
        return int(told[0]), int(told[1]), int(told[2])

    for room, processors in ((7 * GIB, 8), (15 * GIB, 16), (30 * GIB, 32)):
        guessed = run(room, processors, int(5.5 * GIB))
        known = run(room, processors, 0)
        assert known[1] <= room
        assert known[2] <= room
        assert known[0] < guessed[0]
