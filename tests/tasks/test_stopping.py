"""SIGTERM ends every verb within two seconds, while a cache or a registry says nothing at all."""

from __future__ import annotations

import signal
import socket
import threading
import time
from collections.abc import Iterator
from dataclasses import replace

import pytest

from tests.engine.conftest import Checkout, wait_while
from tests.waiting import PATIENCE


class Silent:
    """A server that takes connections, counts them, and never says anything."""

    def __init__(self) -> None:
        self.connections: list[socket.socket] = []
        self._server = socket.create_server(("127.0.0.1", 0))
        self.host = f"127.0.0.1:{self._server.getsockname()[1]}"
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def _serve(self) -> None:
        while True:
            try:
                self.connections.append(self._server.accept()[0])
            except OSError:
                return

    def close(self) -> None:
        self._server.shutdown(socket.SHUT_RDWR)  # closing alone does not end a wait for the next
        self._server.close()
        self._thread.join()
        for connection in self.connections:
            connection.close()


@pytest.fixture
def silent() -> Iterator[Silent]:
    made = Silent()
    yield made
    made.close()


def ended_in_time(checkout: Checkout, silent: Silent, verb: str) -> None:
    with checkout.start(verb) as process:
        wait_while(process, lambda: silent.connections)
        time.sleep(0.3)
        began = time.monotonic()
        process.send_signal(signal.SIGTERM)
        _, said = process.communicate(timeout=PATIENCE)
        assert time.monotonic() - began < 2.0
    assert process.returncode in {130, -signal.SIGINT}
    assert said.strip() == "interrupted: what is done is kept; run doit again to go on"


@pytest.mark.parametrize("verb", ["ccache:verify", "ccache:stats", "ccache:prune", "ccache:pull", "cache:gc"])
def test_with_a_silent_cache(offline: Checkout, silent: Silent, verb: str) -> None:
    offline.edit("pipeline.yaml", "version: 1\n", "version: 1\ncache: gs://bucket/x\n")
    env = {**offline.env, "STORAGE_EMULATOR_HOST": f"http://{silent.host}"}
    ended_in_time(replace(offline, env=env), silent, verb)


@pytest.mark.parametrize("verb", ["plan", "status", "compile:pytorch-clean", "push:arr-base", "lock"])
def test_with_a_silent_registry(offline: Checkout, silent: Silent, verb: str) -> None:
    offline.edit("pipeline.yaml", "version: 1\n", f"version: 1\nregistry: {silent.host}/x\n")
    if verb == "lock":
        offline.edit("pipeline.yaml", "debian:trixie-slim", f"{silent.host}/x/debian:trixie-slim")
    ended_in_time(offline, silent, verb)
