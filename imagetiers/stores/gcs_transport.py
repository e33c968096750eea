"""The HTTP connections to a bucket: they are counted, they tell the store's time, and none is waited for without end.

A socket's own time-out starts anew with every byte, so a peer that sends one byte a second is never too slow for it. Here
a watchman looks at every exchange four times a second and shuts the socket of one that is too slow: the call fails as
for a broken connection, and the next try takes another one.
"""

from __future__ import annotations

import contextlib
import email.utils
import io
import os
import socket
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.client import HTTPResponse
from typing import Any

import requests
from requests.adapters import HTTPAdapter
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool

__all__ = ["ERROR_MAX", "StalledError", "Transport", "receive_into"]

ERROR_MAX = 64 * 1024  # bytes that are read of the page that comes with an error
_PIECE = 256 * 1024
_LOOK = 0.25
_HURRY = 1.0  # seconds; with the look and the end of the process it is two
_here = threading.local()
_Connected = Callable[[socket.socket], None]


class StalledError(Exception):
    """An exchange was ended because it was too slow; worth another try, on another connection."""


@dataclass
class _Exchange:
    """One call's requests. `since` is when the present phase began, `moved` how many bytes it has moved.

    `last` is when the last whole piece of these had moved: bytes that come one by one are no progress. What is received
    goes into `memory`, where there is one.
    """

    phase: str = ""
    since: float = field(default_factory=time.monotonic)
    last: float = field(default_factory=time.monotonic)
    moved: int = 0
    socket: socket.socket | None = None
    reason: str = ""
    memory: memoryview | None = None
    connected: _Connected = lambda _: None

    def enter(self, phase: str) -> None:
        self.phase, self.moved = phase, 0
        self.since = self.last = time.monotonic()

    def move(self, amount: int) -> None:
        pieces = self.moved // _PIECE
        self.moved += amount
        if self.moved // _PIECE > pieces:
            self.last = time.monotonic()


def _exchange() -> _Exchange:
    found: _Exchange | None = getattr(_here, "exchange", None)
    return found if found is not None else _Exchange()


class _Counted(io.RawIOBase):
    """What a socket receives; the calling thread's exchange is told how much that is."""

    def __init__(self, received: io.RawIOBase) -> None:
        self._received = received

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        size: int | None = self._received.readinto(buffer)
        _exchange().move(size or 0)
        return size

    def close(self) -> None:
        self._received.close()
        super().close()


class _Answer(HTTPResponse):
    """An answer that is counted while it comes, and can be received right into memory."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fp = io.BufferedReader(_Counted(self.fp.detach()))

    def read(self, amt: int | None = None) -> Any:
        """Return bytes; or, of memory that `receive_into` has named, the part that they were received into."""
        exchange = _exchange()
        if exchange.memory is None or amt is None:
            return super().read(amt)
        room = exchange.memory[:amt]
        size = self.readinto(room)
        exchange.memory = exchange.memory[size:]
        return room[:size]


class _Watched(HTTPConnection):
    """A connection that tells the calling thread's exchange what it does."""

    response_class = _Answer

    def _new_conn(self) -> socket.socket:
        """Connect to the first address that answers; the socket is known while it connects."""
        exchange = _exchange()
        exchange.enter("connecting")
        failure: OSError | None = None
        timeout = self.timeout if isinstance(self.timeout, int | float) else None
        for family, kind, protocol, _, address in socket.getaddrinfo(self._dns_host, self.port, 0, socket.SOCK_STREAM):
            made = socket.socket(family, kind, protocol)
            exchange.socket = made
            try:
                made.settimeout(timeout)
                for option in self.socket_options or ():
                    made.setsockopt(*option)
                made.connect(address)
            except OSError as error:
                made.close()
                failure = error
            except BaseException:  # what a signal raised: nobody else knows of the socket
                made.close()
                raise
            else:
                return made
        raise failure or OSError("the name has no address")

    def connect(self) -> None:
        """Connect, with TLS where that is asked for; the store then knows what it has to close."""
        super().connect()
        _exchange().connected(self.sock)

    def send(self, data: Any) -> None:
        """Send in pieces, so that it can be seen whether they go."""
        exchange = _exchange()
        if self.sock is not None:  # sending is what connects
            exchange.socket = self.sock
        if exchange.phase != "sending":
            exchange.enter("sending")
        if not isinstance(data, bytes | bytearray | memoryview):
            super().send(data)
            return
        view = memoryview(data)
        for at in range(0, len(view), _PIECE):
            super().send(view[at : at + _PIECE])
            exchange.socket = self.sock
            exchange.move(len(view[at : at + _PIECE]))

    def getresponse(self) -> Any:
        """Wait for the answer's head."""
        exchange = _exchange()
        exchange.socket = self.sock
        exchange.enter("waiting")
        answer = super().getresponse()
        exchange.enter("receiving")
        return answer


class _WatchedTls(_Watched, HTTPSConnection):
    pass


class _Pool(HTTPConnectionPool):
    ConnectionCls = _Watched


class _TlsPool(HTTPSConnectionPool):
    ConnectionCls = _WatchedTls


class _Adapter(HTTPAdapter):
    """Count what really goes over the wire, the client's own repetitions too, and learn the store's clock."""

    def __init__(self, pool: int) -> None:
        super().__init__(pool_connections=4, pool_maxsize=pool)
        self.poolmanager.pool_classes_by_scheme = {"http": _Pool, "https": _TlsPool}
        self.count = 0
        self.ahead = 0.0
        self._lock = threading.Lock()

    def send(self, *args: Any, **kwargs: Any) -> requests.Response:
        with self._lock:
            self.count += 1
        answer = super().send(*args, **kwargs)
        with contextlib.suppress(ValueError, TypeError, OverflowError):
            date = email.utils.parsedate_to_datetime(answer.headers.get("Date", ""))
            self.ahead = date.timestamp() + 0.5 - time.time()  # Date has no fractions
        if answer.status_code == requests.codes.unauthorized:
            # google.auth asks again, or raises, and leaves this answer open: its connection would never be closed.
            answer._content = answer.raw.read(ERROR_MAX)  # noqa: SLF001  a page of any size may come with an error
            answer.raw.close()
        return answer


class Transport:
    """Watched connections for up to `pool` threads.

    An answer may take `answer` seconds; content has to come, or go, with `lowest` bytes a second over each `window`
    seconds and more. While `hurried` says so, nothing that stands still for a second is waited for.
    """

    def __init__(self, pool: int, *, answer: float, lowest: float, window: float, hurried: Callable[[], bool]) -> None:
        self.adapter = _Adapter(pool)
        self._answer, self._lowest, self._window = answer, lowest, window
        self._hurried = hurried
        self._changed = threading.Condition()
        self._pause = threading.Event()  # never set
        self._exchanges: dict[int, _Exchange] = {}
        self._opened: weakref.WeakSet[socket.socket] = weakref.WeakSet()
        self._watchman: threading.Thread | None = None

    def mount(self, session: requests.Session) -> None:
        """Let a session use these connections, and follow no redirect: not with a body, and not with credentials."""
        session.mount("https://", self.adapter)
        session.mount("http://", self.adapter)
        session.max_redirects = 0

    def reconnect(self) -> None:
        """Let the next requests use new connections."""
        self.adapter.poolmanager.clear()

    def close(self) -> None:
        """Close every connection that is still open, also one of an answer that nobody has read to its end.

        Where a thread is in the middle of an exchange, the connection is shut: that wakes the thread, and it closes it.
        """
        with self._changed:
            busy = {id(exchange.socket) for exchange in self._exchanges.values()}
            for opened in list(self._opened):
                with contextlib.suppress(OSError):
                    socket.socket.shutdown(opened, socket.SHUT_RDWR)
                if id(opened) not in busy and (fd := opened.detach()) >= 0:
                    os.close(fd)  # the socket's own close would wait for the answer's

    def _connected(self, made: socket.socket) -> None:
        with self._changed:
            self._opened.add(made)

    @contextlib.contextmanager
    def exchange(self) -> Iterator[None]:
        """Watch what the block asks. Raises StalledError when it was ended for being too slow."""
        exchange, outer = _Exchange(connected=self._connected), getattr(_here, "exchange", None)
        _here.exchange = exchange
        with self._changed:
            self._exchanges[id(exchange)] = exchange
            if self._watchman is None or not self._watchman.is_alive():
                self._watchman = threading.Thread(target=self._watch, name="gcs-watchman", daemon=True)
                self._watchman.start()
            self._changed.notify_all()
        try:
            yield
        except Exception as error:
            if exchange.reason:
                raise StalledError(exchange.reason) from error
            raise
        finally:
            _here.exchange = outer
            with self._changed:
                del self._exchanges[id(exchange)]

    def _watch(self) -> None:
        while True:
            with self._changed:
                if not self._exchanges and not self._changed.wait_for(lambda: bool(self._exchanges), timeout=30.0):
                    self._watchman = None
                    return
                self._look_at_all()
            self._pause.wait(_LOOK)

    def _look_at_all(self) -> None:  # by itself, so that the thread holds none of them, nor its socket, while it pauses
        for exchange in self._exchanges.values():
            self._look_at(exchange)

    def _look_at(self, exchange: _Exchange) -> None:
        now = time.monotonic()
        elapsed = now - exchange.since
        reason = ""
        if exchange.phase == "waiting" and elapsed > self._answer:
            reason = f"no answer in {elapsed:.0f} s"
        moving = exchange.phase in ("sending", "receiving") and elapsed > self._window
        if moving and exchange.moved < elapsed * self._lowest:
            reason = f"only {exchange.moved} bytes in {elapsed:.0f} s"
        if exchange.phase and self._hurried() and now - exchange.last > _HURRY:
            reason = f"{exchange.phase} for {elapsed:.0f} s when it was asked to stop"
        if reason and exchange.socket is not None:
            exchange.reason = reason
            with contextlib.suppress(OSError):
                # The plain socket's method: that of TLS would take its state away from the thread that waits in it.
                socket.socket.shutdown(exchange.socket, socket.SHUT_RDWR)


@contextlib.contextmanager
def receive_into(memory: memoryview) -> Iterator[None]:
    """Let the calling thread's exchange receive what is read of an answer in the block into memory, and make no copy of it.

    What read such an answer through others' code gets the parts of the memory that were filled, in the place of bytes.
    """
    exchange = _exchange()
    exchange.memory = memory
    try:
        yield
    finally:
        exchange.memory = None
