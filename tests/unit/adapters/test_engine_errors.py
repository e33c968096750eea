"""Daemons that are down, hang, break off or refuse: each has words of its own, and none is called a full disk."""

from __future__ import annotations

import contextlib
import gc
import json
import re
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from imagetiers.adapters import docker as engine
from imagetiers.adapters.docker import DockerEngine
from imagetiers.adapters.signals import SignalCancellation
from imagetiers.errors import EngineError
from imagetiers.planning.containers import Container
from tests.conftest import HERE, Golden

# A client that finds no daemon leaves its socket to the garbage collector.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")

Answer = Callable[[socket.socket, str], None]


class Daemon:
    """A socket at which each request gets `answer`; `/version` is answered as a Docker daemon does, unless it hangs."""

    def __init__(self, path: Path, answer: Answer, *, whole: bool = True) -> None:
        self._answer, self._whole = answer, whole
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.bind(str(path))
        self._socket.listen()
        self._open: list[socket.socket] = []
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def _serve(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = self._socket.accept()
                self._open.append(connection)
                threading.Thread(target=self._talk, args=(connection,), daemon=True).start()

    def _talk(self, connection: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while head := connection.recv(65536).decode():
                path = head.split()[1]
                if path == "/version" and self._whole:
                    reply(connection, 200, {"ApiVersion": "1.45"})
                else:
                    self._answer(connection, path)

    def close(self) -> None:
        self._socket.shutdown(socket.SHUT_RDWR)  # closing alone does not end a wait for the next
        self._socket.close()
        self._thread.join()
        for connection in self._open:
            connection.close()


def reply(connection: socket.socket, status: int, document: object) -> None:
    body = document if isinstance(document, bytes) else json.dumps(document).encode()
    connection.sendall(
        b"HTTP/1.1 %d X\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % (status, len(body))
    )
    connection.sendall(body)


def refuses(status: int, message: str) -> Answer:
    return lambda connection, _path: reply(connection, status, {"message": message})


def hangs(_connection: socket.socket, _path: str) -> None:
    threading.Event().wait(20)


def breaks_off(connection: socket.socket, _path: str) -> None:
    connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n[")
    connection.close()


CASES: dict[str, tuple[Answer, bool]] = {
    "an inner error": (refuses(500, "driver failed: EOF"), True),
    "a proxy forbids it": (refuses(403, "authorization denied by plugin"), True),
    "not found": (refuses(404, "no such image: x"), True),
    "a conflict": (refuses(409, "the name is in use"), True),
    "too old an API": (refuses(400, "client version 1.45 is too old"), True),
    "a full disk": (refuses(500, "write /x: no space left on device"), True),
    "breaks off": (breaks_off, True),
    "hangs at once": (hangs, False),
    "hangs later": (hangs, True),
    "a web server": (lambda connection, _path: reply(connection, 200, b"<html>hello</html>"), False),
    "no HTTP": (lambda connection, _path: connection.sendall(b"SSH-2.0-OpenSSH\r\n\r\n"), False),
}


@pytest.fixture(autouse=True)
def _collected() -> Iterator[None]:
    yield
    gc.collect()  # here, and not in somebody else's test


@pytest.fixture
def daemon(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[Answer, bool], DockerEngine]]:
    running: list[Daemon] = []
    monkeypatch.setattr(engine, "_FIRST_ANSWER", 0.5)
    monkeypatch.setattr("docker.constants.DEFAULT_TIMEOUT_SECONDS", 0.5)

    def start(answer: Answer, whole: bool) -> DockerEngine:  # noqa: FBT001
        path = tmp_path / f"{len(running)}.sock"
        running.append(Daemon(path, answer, whole=whole))
        monkeypatch.setenv("DOCKER_HOST", f"unix://{path}")
        return DockerEngine(SignalCancellation())

    yield start
    for each in running:
        each.close()


def told(work: Callable[[], object]) -> str:
    with pytest.raises(EngineError) as error:
        work()
    return re.sub(r"unix://\S+/\d+\.sock\b", "unix:///SOCKET", str(error.value))


def test_what_is_said(
    daemon: Callable[[Answer, bool], DockerEngine], monkeypatch: pytest.MonkeyPatch, golden: Golden
) -> None:
    texts = [f"== {name}\n{told(daemon(*case).images)}\n" for name, case in CASES.items()]
    for host in (
        "unix:///nowhere/docker.sock",
        "tcp://127.0.0.1:1",
        "tcp://127.0.0.1:99999",
        "garbage",
        "tcp://no.invalid:1",
    ):
        monkeypatch.setenv("DOCKER_HOST", host)
        texts.append(f"== {host}\n{told(DockerEngine(SignalCancellation()).images)}\n")

    golden("\n".join(texts), HERE / "golden" / "engine-errors.txt")
    assert "is the disk full?" not in "".join(texts)


@pytest.mark.parametrize("status", [400, 500])
def test_every_question_and_order_ends_in_words(status: int, daemon: Callable[[Answer, bool], DockerEngine]) -> None:
    asked = daemon(refuses(status, "no"), True)  # noqa: FBT003
    container = Container("name", "image", ("true",))

    for work in (
        asked.info,
        asked.images,
        lambda: asked.has_image("x"),
        lambda: asked.tag("x", ("y:z",)),
        lambda: asked.untag("x"),
        lambda: asked.find_containers("a", "b"),
        lambda: asked.start(container),
        lambda: asked.follow("x", print),
        lambda: asked.stop("x", 1),
        lambda: asked.remove("x"),
    ):
        assert told(work)


def test_a_user_without_a_home_or_with_an_odd_configuration(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DOCKER_HOST", raising=False)
    (tmp_path / "config.json").write_text('["no mapping"]')
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))

    assert engine._host() is None

    monkeypatch.delenv("DOCKER_CONFIG")
    monkeypatch.setattr(Path, "home", lambda: (_ for _ in ()).throw(RuntimeError("no home")))
    assert engine._host() is None


def test_an_image_may_take_its_time(daemon: Callable[[Answer, bool], DockerEngine]) -> None:
    """The engine writes all of it to a file before it sends the first byte."""

    def slow(connection: socket.socket, _path: str) -> None:
        threading.Event().wait(1.5)
        reply(connection, 200, b"an archive")

    case: tuple[Answer, bool] = (slow, True)
    assert b"".join(daemon(*case).save("x")) == b"an archive"


def test_an_image_that_is_gone_or_breaks_off_is_told(daemon: Callable[[Answer, bool], DockerEngine]) -> None:
    assert "no such image" in told(lambda: list(daemon(*CASES["not found"]).save("x")))
    assert told(lambda: list(daemon(*CASES["breaks off"]).save("x")))
