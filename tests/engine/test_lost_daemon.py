"""A daemon that goes away in the middle: the compile is not lost, and the next doit resumes it."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.engine.conftest import Checkout, daemon_socket, wait_while
from tests.waiting import PATIENCE


class Proxy:
    """Stands between doit and the real daemon, and can be cut."""

    def __init__(self, path: Path) -> None:
        self.host = f"unix://{path}"
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.bind(str(path))
        self._socket.listen()
        self._open = [self._socket]
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                theirs, _ = self._socket.accept()
                ours = socket.socket(socket.AF_UNIX)
                ours.connect(daemon_socket())
                self._open += [theirs, ours]
                for pair in ((theirs, ours), (ours, theirs)):
                    threading.Thread(target=self._pump, args=pair, daemon=True).start()

    @staticmethod
    def _pump(source: socket.socket, target: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                target.sendall(data)
        with contextlib.suppress(OSError):
            target.shutdown(socket.SHUT_WR)

    def cut(self) -> None:
        for each in self._open:
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
            each.close()


@pytest.fixture
def proxy(tmp_path: Path) -> Iterator[Proxy]:
    made = Proxy(tmp_path / "docker.sock")
    yield made
    made.cut()


def test_a_compile_outlives_its_daemons_connection(checkout: Checkout, proxy: Proxy) -> None:
    checkout.edit("images/pytorch-clean/make-wheel", 'sleep "${WORK_SECONDS:-0.3}"', "sleep 1")
    process = checkout.start("compile", DOCKER_HOST=proxy.host)
    container = checkout.wait_for_container(process)
    logs = checkout.root / ".imagetiers" / "logs" / "pytorch-clean"
    # It is followed once its first line is in the log.
    wait_while(process, lambda: any(log.stat().st_size for log in logs.glob("compile-*.log")))
    proxy.cut()
    out, err = process.communicate(timeout=PATIENCE)

    assert process.returncode == 1, out + err
    assert err.startswith("docker: "), err
    assert "compile:pytorch-clean: the compile may still run in its container\n  hint: run doit again" in err
    assert "Traceback" not in out + err
    assert checkout.containers() == [container]

    again = checkout.doit("compile")
    assert again.code == 0, again.text
    assert "resumes the compile that is still running" in again.out
    assert checkout.containers() == []
