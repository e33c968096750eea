"""The real services, put together. Nothing connects until it is used: `doit check` works offline and at once."""

from __future__ import annotations

import math
import os
import sys
import time
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

from imagetiers.adapters.console import RichConsole
from imagetiers.adapters.display import BuildDisplay, ToldConsole
from imagetiers.adapters.docker import DockerEngine
from imagetiers.adapters.locks import FileLocks
from imagetiers.adapters.signals import SignalCancellation
from imagetiers.config.environment import COSIGN_KEY, SIGNING_KEY
from imagetiers.config.layout import RUN_VARIABLE, WORKER_VARIABLE, Layout
from imagetiers.config.model import Pipeline, Trust
from imagetiers.errors import PipelineError, Problem
from imagetiers.events import Events, all_of
from imagetiers.later import later
from imagetiers.services import Console, Git, Linter, Notary, OnLine, Registry, Scanner, Services

if TYPE_CHECKING:
    from imagetiers.stores.port import BucketSettings, Store

__all__ = ["connect"]

TIMEOUT = "IMAGETIERS_CACHE_TIMEOUT"
_WORKER_MAX = 100
_GITHUB_RUN = "GITHUB_RUN_ID"
_PROGRAM_GRACE = 600.0
_AUTOMATION = {"TF_IN_AUTOMATION": "1", "TF_INPUT": "0", "CLOUDSDK_CORE_DISABLE_PROMPTS": "1"}
_ENDPOINTS = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")
_EARLIER_NAME = "IMAGETIERS_CACHE_PATIENCE"  # of 0.2.0; still read


def _timeout() -> float | None:
    """Read for how many seconds a bucket that does not answer is tried again."""
    name = TIMEOUT if TIMEOUT in os.environ else _EARLIER_NAME
    text = os.environ.get(name)
    if text is None:
        return None
    try:
        seconds = float(text)
    except ValueError:
        seconds = math.nan
    if not 0 <= seconds < math.inf:
        raise PipelineError(Problem(name, f"'{text}' is not a number of seconds", "such as 120"))
    return seconds


def _spans(say: Callable[[str], None]) -> Events | None:
    """Return what makes spans of events, None where no variable of OpenTelemetry's says where they go."""
    endpoint = next((name for name in _ENDPOINTS if os.environ.get(name)), None)
    if endpoint is None:
        return None
    from imagetiers.adapters.telemetry import open_spans

    return open_spans(say, endpoint)


def connect(layout: Layout, pipeline: Pipeline, trust: Trust, listener: Events | None = None) -> Services:
    """Return the services of a checkout; takes over Ctrl-C and SIGTERM. `listener` is told all events, too."""
    cancel = SignalCancellation()
    cancel.install()
    screen = RichConsole()
    display = BuildDisplay(screen)
    listeners = [each for each in (listener, _spans(screen.line), display) if each is not None]
    events = all_of(*listeners)
    console = ToldConsole(screen, events)
    opened = _opened(layout, pipeline, cancel)
    return Services(
        engine=DockerEngine(cancel, layout.volume),
        store=later(lambda: _signed(opened, layout, pipeline, trust, console)),
        bucket_settings=partial(_settings, opened),
        registry=later(_registry),
        git=later(lambda: _git(cancel)),
        linter=later(_linter),
        scanner=later(_scanner),
        notary=later(lambda: _notary(trust)),
        console=console,
        locks=FileLocks(layout.locks, console, cancel),
        cancel=cancel,
        user=(os.getuid(), os.getgid()),
        now=time.time,
        events=events,
        worker=_worker,
        run=_run(),
        run_program=partial(_run_program, cancel),
        confirm=_confirm,
    )


def _opened(layout: Layout, pipeline: Pipeline, cancel: SignalCancellation) -> Store:
    """Return the cache. A bucket is made at once, since that says what is wrong with its name, or not installed."""
    timeout = _timeout()

    def made() -> Store:
        from imagetiers.stores.open import open_store

        return open_store(pipeline.cache, layout.root, timeout=timeout, hurried=lambda: cancel.requested)

    return made() if "://" in pipeline.cache else later(made)


def _signed(opened: Store, layout: Layout, pipeline: Pipeline, trust: Trust, console: Console) -> Store:
    from imagetiers.signing.signers import LazySigner
    from imagetiers.signing.store import SignedStore

    secret = os.environ.get(SIGNING_KEY, "") if trust.trusted and pipeline.trust.keys else ""
    signer = LazySigner(secret, pipeline.trust) if secret else None
    return SignedStore(opened, pipeline.trust, signer, console.line, layout.state / "signed")


def _settings(opened: Store) -> BucketSettings | None:
    """Ask for a bucket's settings; a folder has none."""
    ask = getattr(opened, "settings", None)
    return ask() if ask is not None else None


def _registry() -> Registry:
    from imagetiers.adapters.registry import HttpRegistry

    return HttpRegistry()


def _git(cancel: SignalCancellation) -> Git:
    from imagetiers.adapters.git import GitRemotes

    return GitRemotes(cancel)


def _linter() -> Linter:
    from imagetiers.adapters.hadolint import Hadolint

    return Hadolint()


def _scanner() -> Scanner:
    from imagetiers.adapters.trivy import Trivy

    return Trivy()


def _notary(trust: Trust) -> Notary:
    from imagetiers.adapters.cosign import Cosign

    return Cosign(os.environ.get(COSIGN_KEY, "") if trust.trusted else "")


def _run_program(cancel: SignalCancellation, command: tuple[str, ...], on_line: OnLine) -> int | None:
    """Run a program that changes what lies outside: interrupted, it has its time to note what it has done."""
    from imagetiers.adapters.process import run

    try:
        return run(command, env=_AUTOMATION, on_line=on_line, cancel=cancel, grace=_PROGRAM_GRACE)
    except FileNotFoundError:
        return None


def _confirm(question: str) -> bool | None:
    """Ask whoever sits at the terminal: only a whole yes is one."""
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        return None
    try:
        return input(f"{question} [yes/no] ").strip().lower() == "yes"
    except EOFError:
        return False


def _run() -> str:
    """Name this doit for records: as IMAGETIERS_RUN says, by the run of GitHub's that it is a part of, or by chance."""
    told = os.environ.get(RUN_VARIABLE) or os.environ.get(_GITHUB_RUN) or os.urandom(8).hex()
    return told[:_WORKER_MAX]


def _worker() -> str:
    """Name this machine for records: as IMAGETIERS_WORKER says, a service whose machines live for one build, or the host."""
    import socket

    from imagetiers.adapters.github import in_github

    told = os.environ.get(WORKER_VARIABLE) or ("github-actions" if in_github() else socket.gethostname())
    return told[:_WORKER_MAX]
