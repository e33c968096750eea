"""Runs a build file as a worker of Cloud Build does: a container a step, on this machine's engine.

As there: /workspace, HOME=/builder/home and named volumes that live as long as the worker; the Docker socket in every step;
waitFor; substitutions; time-outs of steps; the first failure ends the build. Otherwise than there: workers share one
engine, so names of volumes get the worker's own before them, a fresh worker's images must be removed by whoever asks for
it, and steps run on the host's network, where the tests' servers are.
"""

from __future__ import annotations

import contextlib
import io
import re
import secrets
import subprocess
import tarfile
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

import yaml

from imagetiers.adapters.docker_socket import DEFAULT_SOCKET
from tests.engine.conftest import Checkout, daemon_socket, docker, remove_all
from tests.waiting import PATIENCE, wait_until

Json = dict[str, Any]

NOT_SENT = {".git", ".venv", ".imagetiers", "__pycache__"}
CALM = 0.05


@dataclass
class Step:
    """What became of a step. `seconds` is how long its process lived, by the engine's clock, without the container's start."""

    id: str
    status: str = "QUEUED"
    began: float = 0.0
    ended: float = 0.0
    log: str = ""
    seconds: float = 0.0


@dataclass
class Build:
    """A build that runs or has ended."""

    steps: dict[str, Step]
    failed: threading.Event = field(default_factory=threading.Event)
    threads: list[threading.Thread] = field(default_factory=list)

    def wait(self) -> Build:
        end = time.monotonic() + PATIENCE
        for thread in self.threads:
            thread.join(max(0, end - time.monotonic()))
            assert not thread.is_alive(), self.text
        return self

    @property
    def status(self) -> str:
        statuses = {step.status for step in self.steps.values()}
        return next((bad for bad in ("TIMEOUT", "FAILURE") if bad in statuses), "SUCCESS")

    @property
    def statuses(self) -> dict[str, str]:
        return {step.id: step.status for step in self.steps.values()}

    @property
    def text(self) -> str:
        return "\n".join(f"== {step.id} {step.status}\n{step.log}" for step in self.steps.values())

    @property
    def seconds(self) -> float:
        return max(step.ended for step in self.steps.values()) - min(step.began for step in self.steps.values())


class Worker:
    """A worker that has nothing but a checkout. `env` is given to all steps; here it stands for the metadata server."""

    def __init__(self, checkout: Path, builder: str, env: Mapping[str, str]) -> None:
        self.id = f"worker-{secrets.token_hex(4)}"
        self._builder = builder
        self._env = env
        self._volumes: set[str] = set()
        holder = f"{self.id}-source"
        try:
            docker("create", "--name", holder, "-v", f"{self._volume('workspace')}:/workspace", builder)
            subprocess.run(["docker", "cp", "-", f"{holder}:/workspace"], input=_tar(checkout), check=True)
            docker("rm", holder)
        except BaseException:
            self.destroy()
            raise

    def start(self, file: Path, **substitutions: str) -> Build:
        document = yaml.safe_load(file.read_text())
        values = {
            "PROJECT_ID": "a-project",
            "BUILD_ID": self.id,
            "LOCATION": "here",
            **document.get("substitutions", {}),
            "_BUILDER": self._builder,
            **substitutions,
        }
        for name, value in values.items():
            values[name] = substitute(value, values)
        steps = [_resolved(step, values) for step in document["steps"]]
        build = Build({step["id"]: Step(step["id"]) for step in steps})
        env = _resolved(document.get("options", {}).get("env", []), values)
        done = {step["id"]: threading.Event() for step in steps}
        for index, step in enumerate(steps):
            after = step.get("waitFor", [earlier["id"] for earlier in steps[:index]])
            events = [done[id_] for id_ in after if id_ != "-"]
            arguments = (build, step, env, events, done[step["id"]])
            build.threads.append(threading.Thread(target=self._step, args=arguments, daemon=True))
        for thread in build.threads:
            thread.start()
        return build

    def run(self, file: Path, **substitutions: str) -> Build:
        return self.start(file, **substitutions).wait()

    def kill(self, step: str) -> None:
        """End a step's container as the loss of the machine does."""
        docker("kill", self._container(step))

    def destroy(self) -> None:
        """Take away what only this worker had."""
        self._remove_containers(f"name={self.id}")
        for volume in self._volumes:
            self._remove_containers(f"volume={volume}")
            docker("volume", "rm", "-f", volume)

    def _remove_containers(self, which: str) -> None:
        """Remove containers and wait until they are gone: one that the engine is removing already refuses a second try."""

        def gone() -> bool:
            names = docker("ps", "-aq", "--filter", which).split()
            for name in names:
                with contextlib.suppress(subprocess.CalledProcessError):
                    docker("rm", "-f", name)
            return not names

        wait_until(gone, lambda: which)

    def _volume(self, name: str) -> str:
        own = f"{self.id}-{name}"
        if own not in self._volumes:
            self._volumes.add(own)
            docker("volume", "create", own)
        return own

    def _container(self, step: str) -> str:
        return f"{self.id}-step-{step}"

    def _step(
        self, build: Build, step: Json, env: list[str], after: list[threading.Event], done: threading.Event
    ) -> None:
        state = build.steps[step["id"]]
        for event in after:
            while not event.wait(CALM):
                if build.failed.is_set():
                    break
        if build.failed.is_set():
            state.status = "CANCELLED"
            return
        state.status, state.began = "WORKING", time.monotonic()
        command = self._command(step, env)
        try:
            limit = float(step["timeout"].removesuffix("s")) if "timeout" in step else None
            ran = subprocess.run(
                command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=limit, check=False
            )
            state.log, state.status = ran.stdout, "SUCCESS" if ran.returncode == 0 else "FAILURE"
        except subprocess.TimeoutExpired:
            self._remove_containers(f"name={self._container(step['id'])}")
            state.status = "TIMEOUT"
        state.ended = time.monotonic()
        if state.status == "SUCCESS":
            done.set()
        else:
            build.failed.set()
        with contextlib.suppress(subprocess.CalledProcessError):  # the worker is destroyed already
            state.seconds = _lived(self._container(step["id"]))
            docker("rm", self._container(step["id"]))

    def _command(self, step: Json, env: list[str]) -> list[str]:
        command = ["docker", "run", "--name", self._container(step["id"]), "--network", "host"]
        command += ["-v", f"{daemon_socket()}:{DEFAULT_SOCKET}", "-w", "/workspace"]
        command += ["-v", f"{self._volume('workspace')}:/workspace", "-v", f"{self._volume('home')}:/builder/home"]
        names = {volume["name"]: self._volume(volume["name"]) for volume in step.get("volumes", [])}
        command += [f"--volume={names[volume['name']]}:{volume['path']}" for volume in step.get("volumes", [])]
        given = [*(f"{name}={value}" for name, value in self._env.items()), *env, *step.get("env", [])]
        for variable in ["HOME=/builder/home", *given]:
            name, _, value = variable.partition("=")
            volume, colon, rest = value.partition(":")
            command.append(f"--env={name}={names.get(volume, volume)}{colon}{rest}")
        if "entrypoint" in step:
            command.append(f"--entrypoint={step['entrypoint']}")
        return [*command, step["name"], *step.get("args", [])]


class Workers:
    """Workers of one pipeline, whose images are removed before a fresh one comes: they share an engine."""

    def __init__(self, pipeline: Checkout, builder: str) -> None:
        self._pipeline = pipeline
        self._builder = builder
        self._workers: list[Worker] = []

    def fresh(self, root: Path | None = None) -> Worker:
        """Return a worker that knows nothing, with the pipeline as it is committed, or with another checkout of it."""
        for worker in self._workers:
            worker.destroy()
        remove_all(self._pipeline)
        return self.another(root)

    def another(self, root: Path | None = None) -> Worker:
        """Return a worker beside those that there are; it has a volume of its own, but the engine's images."""
        self._workers.append(Worker(root or self._pipeline.root, self._builder, self._pipeline.env))
        return self._workers[-1]

    def destroy(self) -> None:
        """Take all of them away."""
        for worker in self._workers:
            worker.destroy()


def _lived(container: str) -> float:
    said = docker("inspect", "--format", "{{.State.StartedAt}} {{.State.FinishedAt}}", container).split()
    started, finished = map(datetime.fromisoformat, said)
    return (finished - started).total_seconds()


def substitute(text: str, values: Mapping[str, str]) -> str:
    """Replace $NAME and ${NAME}; `$$` is a dollar. Raises KeyError for what has no value."""

    def value(match: re.Match[str]) -> str:
        return "$" if match[0] == "$$" else values[match[1] or match[2]]

    return re.sub(r"\$\$|\$\{(\w+)\}|\$([A-Z_][A-Z0-9_]*)", value, text)


def _resolved(node: Any, values: Mapping[str, str]) -> Any:
    if isinstance(node, dict):
        return {key: _resolved(value, values) for key, value in node.items()}
    if isinstance(node, list):
        return [_resolved(value, values) for value in node]
    return substitute(node, values) if isinstance(node, str) else node


def _tar(folder: Path) -> bytes:
    """Pack what a commit would hold."""

    def kept(entry: tarfile.TarInfo) -> tarfile.TarInfo | None:
        return None if NOT_SENT & set(entry.name.split("/")) else entry

    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w") as tar:
        tar.add(folder, arcname=".", filter=kept)
    return data.getvalue()
