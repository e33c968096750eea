"""The methods side by side, as values: what each is called, and the command that pushes or pulls with it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Literal

from benchmarks.session import ROOT

__all__ = ["FLOOR", "METHODS", "OURS", "Command", "Job", "Method", "Taken", "run"]

OURS, FLOOR = "imagetiers", "the floor"
TRANSFERS = "16"
LIMIT_SECONDS = 900
Verb = Literal["push", "pull"]


@dataclass(frozen=True)
class Job:
    """What to do: folder and where it lies in the server; only the files `some` if given; `since` as push takes it.

    `like` is a folder that holds all of the files, for a method that knows beforehand what it moves.
    """

    url: str
    bucket: str
    prefix: str
    folder: str
    some: tuple[str, ...] | None = None
    step: str = "build"
    since: int | None = None
    source: str = ""
    like: str = ""


@dataclass(frozen=True)
class Command:
    """A command and what it needs in its environment."""

    argv: list[str]
    environ: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Method:
    """A way to move a cache directory. `pace` says how many runs there is time for: 0 all, 1 few, 2 hardly any.

    `command` gives None for what the method cannot do. With `md5` it compares by MD5, which its server then computes.
    """

    name: str
    label: str
    pace: int
    command: Callable[[Verb, Job, Path], Command | None]
    program: str = ""
    md5: bool = False

    @property
    def installed(self) -> bool:
        """Whether the program that it needs is there."""
        return not self.program or shutil.which(self.program) is not None


@dataclass(frozen=True)
class Taken:
    """What one child process took. `wall` and `cpu` are of the work, `whole` is the process from start to end.

    They differ for the Python clients only (interpreter and imports). Seconds; `rss` is the process's peak, MB.
    """

    wall: float
    whole: float
    cpu: float
    rss: float


def run(method: Method, verb: Verb, job: Job) -> Taken | None:
    """Run a method once in a process of its own. Raises RuntimeError with its output when it fails."""
    with tempfile.TemporaryDirectory(prefix="job-", dir=Path(job.folder).parent) as scratch:
        command = method.command(verb, job, Path(scratch))
        if command is None:
            return None
        with (Path(scratch) / "out").open("w+b") as out, (Path(scratch) / "err").open("w+b") as err:
            began = time.perf_counter()
            process = subprocess.Popen(
                command.argv, cwd=ROOT, env={**os.environ, **command.environ}, stdout=out, stderr=err
            )
            limit = threading.Timer(LIMIT_SECONDS, process.kill)
            limit.start()
            _, status, usage = os.wait4(process.pid, 0)
            whole = time.perf_counter() - began
            limit.cancel()
            process.returncode = os.waitstatus_to_exitcode(status)
            said, complaints = (_read(file.name) for file in (out, err))
    if process.returncode:
        raise RuntimeError(f"{method.name} {verb} ended with {process.returncode}:\n{complaints[-3000:]}")
    own = json.loads(said) if said.startswith('{"wall"') else {}
    cpu = usage.ru_utime + usage.ru_stime
    return Taken(own.get("wall", whole), whole, own.get("cpu", cpu), own.get("rss", usage.ru_maxrss / 1024))


def _read(path: str) -> str:
    return Path(path).read_text(errors="replace")


def _python(client: str) -> Callable[[Verb, Job, Path], Command]:
    def command(verb: Verb, job: Job, scratch: Path) -> Command:
        file = scratch / "job.json"
        file.write_text(json.dumps(asdict(job)))
        return Command([sys.executable, "-m", "benchmarks.cache_clients", client, verb, str(file)])

    return command


def _local(verb: Verb, job: Job, scratch: Path) -> Command | None:
    return _python("local")(verb, job, scratch) if verb == "pull" and job.source else None


def _floor(verb: Verb, job: Job, scratch: Path) -> Command | None:
    return _python("floor")(verb, job, scratch) if job.like else None


def _rclone(verb: Verb, job: Job, scratch: Path) -> Command:
    remote = f":gcs:{job.bucket}/{job.prefix}"
    options = ["--config", "", "--gcs-endpoint", f"{job.url}/storage/v1/", "--gcs-anonymous", "--gcs-no-check-bucket"]
    options += ["--transfers", TRANSFERS, "--checkers", TRANSFERS, "--stats", "0"]
    if verb == "push":
        return Command(["rclone", "sync", job.folder, remote, *options])
    if job.some is None:
        return Command(["rclone", "sync", remote, job.folder, *options])
    names = scratch / "names"
    names.write_text("".join(f"{name}\n" for name in job.some))
    return Command(["rclone", "copy", remote, job.folder, "--files-from-raw", str(names), *options])


def _gcloud(verb: Verb, job: Job, scratch: Path) -> Command | None:
    if job.some is not None:
        return None  # rsync takes no list of files
    remote = f"gs://{job.bucket}/{job.prefix}"
    ends = [job.folder, remote] if verb == "push" else [remote, job.folder]
    environ = {
        "CLOUDSDK_API_ENDPOINT_OVERRIDES_STORAGE": f"{job.url}/storage/v1/",
        "CLOUDSDK_AUTH_DISABLE_CREDENTIALS": "true",
        "CLOUDSDK_CORE_DISABLE_PROMPTS": "1",
        "CLOUDSDK_CORE_DISABLE_USAGE_REPORTING": "true",
        "CLOUDSDK_COMPONENT_MANAGER_DISABLE_UPDATE_CHECK": "true",
        "CLOUDSDK_CORE_PROJECT": "benchmark",
        "CLOUDSDK_CONFIG": str(scratch / "gcloud"),
    }
    return Command(["gcloud", "storage", "rsync", "--recursive", "--no-user-output-enabled", *ends], environ)


METHODS = (
    Method("imagetiers", OURS, 0, _python("imagetiers")),
    Method("tar", "tar and zstd -1, one object", 0, _python("tar"), "zstd"),
    Method("floor", FLOOR, 0, _floor),
    Method("local", "tar x, no network", 0, _local),
    Method("threads", "google-cloud-storage, 16 threads", 1, _python("threads")),
    Method("manager", "transfer_manager, 16 threads", 1, _python("manager")),
    Method("rclone", "rclone, 16 transfers", 1, _rclone, "rclone", md5=True),
    Method("gcloud", "gcloud storage rsync", 2, _gcloud, "gcloud", md5=True),
)
