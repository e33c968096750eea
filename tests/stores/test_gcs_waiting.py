"""What a bucket's store makes of a network that is slow, silent, or somebody else's."""

from __future__ import annotations

import contextlib
import gc
import random
import signal
import socket
import subprocess
import sys
import threading
import uuid
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest
import requests

from imagetiers.errors import NotFoundError, StoreError, UnavailableError
from imagetiers.retry import RetryPolicy
from imagetiers.stores.gcs import GcsStore
from tests.gcs.harness import BUCKET, QUICK, GcsServer
from tests.gcs.proxy import Proxy
from tests.waiting import PATIENCE

HASTY = replace(QUICK, answer=1.0, window=1.0, total=60.0)
LARGE = random.Random(1).randbytes(3 << 20)
HUGE = random.Random(2).randbytes(9 << 20)


@pytest.fixture
def proxy(gcs_server: GcsServer) -> Iterator[Proxy]:
    made = Proxy(gcs_server.url)
    yield made
    made.close()


@pytest.fixture
def store(proxy: Proxy) -> Iterator[GcsStore]:
    made = GcsStore(BUCKET, f"waiting/{uuid.uuid4().hex}", endpoint=proxy.url, policy=HASTY)
    yield made
    made.close()


CALLS: dict[str, Callable[[GcsStore, Path], object]] = {
    "read": lambda s, _: s.read("x"),
    "range": lambda s, _: s.read("x", start=1, length=2 << 20),
    "into": lambda s, _: s.read_into("x", memoryview(bytearray(len(LARGE)))),
    "read-file": lambda s, p: s.read_file("x", p / "out"),
    "write": lambda s, _: s.write("x", LARGE),
    "resumable": lambda s, _: s.write("x", HUGE),
    "stat": lambda s, _: s.stat("x"),
    "list": lambda s, _: list(s.list()),
    "delete": lambda s, _: s.delete("y"),
}


@pytest.mark.parametrize("how", ["silent", "drips", "drips_content", "deaf"])
@pytest.mark.parametrize("call", CALLS)
def test_what_stands_still_is_tried_again_on_another_connection(
    proxy: Proxy, store: GcsStore, tmp_path: Path, call: str, how: str
) -> None:
    store.write("x", LARGE)
    store.close()  # the next call opens a connection
    before = proxy.connections
    proxy.queue = [getattr(proxy, how)]
    CALLS[call](store, tmp_path)
    if how != "drips_content" or call in ("read", "range", "read-file"):
        assert proxy.connections - before >= 2
    assert store.read("x")[0] in (LARGE, HUGE)


def test_a_network_that_never_moves_is_given_up(proxy: Proxy, store: GcsStore) -> None:
    store.write("x", LARGE)
    brief = GcsStore(BUCKET, "waiting", endpoint=proxy.url, policy=replace(HASTY, total=0.5))
    proxy.queue = [proxy.drips] * 20
    with pytest.raises(UnavailableError, match="too slow"):
        brief.read("x")
    brief.close()


@pytest.mark.parametrize("how", ["silent", "drips", "deaf"])
def test_who_asked_to_stop_waits_for_nothing(proxy: Proxy, how: str) -> None:
    """With time-outs of an hour, what stands still ends all the same, and is not tried again."""
    asked = threading.Event()
    hour = RetryPolicy(connect=3600, answer=3600, window=3600, total=3600)
    patient = GcsStore(BUCKET, "waiting", endpoint=proxy.url, policy=hour, hurried=asked.is_set)
    proxy.queue = [getattr(proxy, how)] * 20
    threading.Timer(0.5, asked.set).start()
    with pytest.raises(StoreError, match="asked to stop"):
        patient.write("x", HUGE[: 8 << 20])
    patient.close()


def test_closing_closes_a_connection_whose_answer_nobody_has_read(store: GcsStore) -> None:
    store.write("x", LARGE)
    wire = store._wire()
    with wire.transport.exchange():
        answer = wire._session.get(f"{store._endpoint}/storage/v1/b/{BUCKET}/o", stream=True)
    assert answer.raw.connection is not None
    opened = answer.raw.connection.sock
    assert opened.fileno() >= 0
    store.close()
    assert opened.fileno() == -1
    assert store.read("x")[0] == LARGE


@pytest.mark.timeout(30)
def test_closing_wakes_who_waits_for_an_answer(proxy: Proxy) -> None:
    """With time-outs of an hour: the call takes another connection."""
    hour = RetryPolicy(first=0.005, most=0.02, connect=3600, answer=3600, window=3600, total=3600)
    patient = GcsStore(BUCKET, "waiting", endpoint=proxy.url, policy=hour)
    proxy.queue = [proxy.silent]
    with ThreadPoolExecutor(1) as pool:
        written = pool.submit(patient.write, "x", LARGE)
        while not proxy.connections or proxy.queue:
            pass
        while not written.done():
            patient.close()
    assert patient.read("x") == (LARGE, written.result())
    patient.close()


def test_what_ends_a_call_while_it_connects_leaves_no_connection_behind(recwarn: pytest.WarningsRecorder) -> None:
    class Ended(BaseException):
        pass

    def ended(*_: object) -> None:
        raise Ended

    warnings.simplefilter("always")
    gc.collect()  # what other tests of this process have left is theirs
    recwarn.clear()
    with socket.create_server(("127.0.0.1", 0), backlog=0) as full, contextlib.ExitStack() as waiting:
        for _ in range(3):  # then the kernel answers nobody any more
            one = waiting.enter_context(socket.socket())
            one.setblocking(False)  # noqa: FBT003  the standard library's
            one.connect_ex(full.getsockname())
        store = GcsStore(BUCKET, endpoint=f"http://127.0.0.1:{full.getsockname()[1]}", policy=HASTY)
        before = signal.signal(signal.SIGALRM, ended)
        signal.setitimer(signal.ITIMER_REAL, 0.2)
        try:
            with pytest.raises(Ended):
                store.read("x")
        finally:
            signal.signal(signal.SIGALRM, before)
        store.close()
        gc.collect()
    assert [str(warning.message) for warning in recwarn if warning.category is ResourceWarning] == []


CHILD = """
import sys
from concurrent.futures import ThreadPoolExecutor
from imagetiers.adapters.signals import SignalCancellation
from imagetiers.stores.gcs import GcsStore
cancel = SignalCancellation()
cancel.install()
store = GcsStore("test-bucket", "waiting", endpoint=sys.argv[1], hurried=lambda: cancel.requested)
print("waiting", flush=True)
with ThreadPoolExecutor(4) as pool:
    list(pool.map(lambda n: store.read(f"{n}"), range(8)))
"""


@pytest.mark.timeout(30)
def test_sigterm_ends_a_process_whose_threads_wait(proxy: Proxy) -> None:
    proxy.queue = [proxy.silent] * 100
    child = subprocess.Popen([sys.executable, "-c", CHILD, proxy.url], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert child.stdout is not None
    assert child.stdout.readline() == b"waiting\n"
    with pytest.raises(subprocess.TimeoutExpired):
        child.wait(1.5)
    child.send_signal(signal.SIGTERM)
    child.communicate(timeout=PATIENCE)
    assert child.returncode != 0


# somebody else answers

PORTAL = "HTTP/1.1 {}\nContent-Type: text/html\nConnection: close\n\n<html>Please log in</html>"
PAGES = {
    "200": PORTAL.format("200 OK"),
    "404": PORTAL.format("404 Not Found"),
    "json 404": PORTAL.format("404 Not Found").replace("<html>Please log in</html>", '["no such route"]'),
    "511": PORTAL.format("511 Network Authentication Required"),
    "511 json": PORTAL.format("511 Network Authentication Required").replace("<html>Please log in</html>", "{}"),
    "407": PORTAL.format("407 Proxy Authentication Required"),
    "403": PORTAL.format("403 Forbidden"),
    "520": PORTAL.format("520 Unknown Error"),
    **{
        f"nested {what} {status}": PORTAL.format(status).replace("<html>Please log in</html>", nesting * 2_000)
        for status in ("200 OK", "404 Not Found", "403 Forbidden", "511 Network Authentication Required")
        for what, nesting in {"lists": "[", "errors": '{"error":'}.items()
    },
    "infinite": PORTAL.format("200 OK").replace(
        "<html>Please log in</html>",
        '{"name": "x", "size": Infinity, "generation": "1", "crc32c": "", "items": [{"name": "x", "size": Infinity}]}',
    ),
    "redirect": PORTAL.format("302 Found\nLocation: http://127.0.0.1:1/login"),
    "redirect with body": PORTAL.format("307 Temporary Redirect\nLocation: http://127.0.0.1:1/upload"),
    "empty json": "HTTP/1.1 200 OK\nContent-Type: application/json\nContent-Length: 2\nConnection: close\n\n{}",
    "json list": "HTTP/1.1 200 OK\nContent-Type: application/json\nContent-Length: 3\nConnection: close\n\n[1]",
}


@pytest.fixture
def _uncollected() -> Iterator[None]:
    """As deep as nested pages lead, nothing can be finalized: what other tests have left is not collected there."""
    gc.disable()
    yield
    gc.enable()


@pytest.mark.usefixtures("_uncollected")
@pytest.mark.parametrize("page", PAGES)
@pytest.mark.parametrize("call", CALLS)
def test_a_page_of_somebody_else_is_tried_again(
    proxy: Proxy, store: GcsStore, tmp_path: Path, call: str, page: str
) -> None:
    store.write("x", LARGE)
    store.close()
    proxy.queue = [proxy.answers(PAGES[page])]
    result = CALLS[call](store, tmp_path)
    if call == "stat":
        assert result is not None
    if call == "list" and page != "empty json":  # which is what an empty bucket says
        assert len(list(result)) == 1  # type: ignore[call-overload]
    assert store.read("x")[0] in (LARGE, HUGE)


@pytest.mark.usefixtures("_uncollected")
@pytest.mark.parametrize("page", [page for page in PAGES if page != "empty json"])
@pytest.mark.parametrize("call", CALLS)
def test_a_network_of_somebody_else_is_refused_in_words(
    proxy: Proxy, store: GcsStore, tmp_path: Path, call: str, page: str
) -> None:
    if call == "delete" and " 200 " in PAGES[page].splitlines()[0]:
        pytest.skip("whatever says 2xx to a delete has done it")
    proxy.queue = [proxy.answers(PAGES[page])] * 50
    with pytest.raises(UnavailableError, match=r"none of Google Cloud Storage's|connection failed"):
        CALLS[call](store, tmp_path)


def test_the_stores_own_404_is_an_absence(store: GcsStore) -> None:
    with pytest.raises(NotFoundError):
        store.read("nothing")
    assert store.stat("nothing") is None


def test_a_put_does_not_follow_a_redirect(proxy: Proxy, store: GcsStore) -> None:
    other = Proxy(proxy.url)
    page = f"HTTP/1.1 308 Permanent Redirect\nLocation: {other.url}/steal\nContent-Length: 0\nConnection: close\n\n"
    proxy.queue = [proxy.answers(page)]
    store.write("x", LARGE)
    assert other.connections == 0
    other.close()


def test_retry_after_is_waited_for(proxy: Proxy, store: GcsStore, monkeypatch: pytest.MonkeyPatch) -> None:
    waited: list[float] = []

    def paused(seconds: float, _: object) -> bool:
        waited.append(seconds)
        return True

    monkeypatch.setattr("imagetiers.retry._paused", paused)
    busy = "HTTP/1.1 503 Busy\nRetry-After: {}\nContent-Length: 0\nConnection: close\n\n"
    proxy.queue = [proxy.answers(busy.format("7")), proxy.answers(busy.format("Wed, 21 Oct 2015 07:28:00 GMT"))]
    store.write("x", b"1")
    assert waited[0] == 7
    assert len(waited) == 2
    store.close()
    proxy.queue = [proxy.answers(busy.format("99999999"))]
    brief = GcsStore(BUCKET, "x", endpoint=proxy.url, policy=replace(HASTY, total=5.0))
    with pytest.raises(UnavailableError):  # a minute would be more than is left of the time
        brief.write("x", b"1")
    brief.close()


def test_a_listing_that_repeats_itself_ends(store: GcsStore, monkeypatch: pytest.MonkeyPatch) -> None:
    store.write("a", b"1")
    page = store._call("", lambda wire: wire.page(store._prefix, None))[0]
    monkeypatch.setattr("imagetiers.stores.gcs._page", lambda *_, **__: (page, "again"))
    with pytest.raises(UnavailableError, match="comes to no end"):
        list(store.list())
    monkeypatch.setattr("imagetiers.stores.gcs._page", lambda *_, **__: ([], "again"))
    with pytest.raises(UnavailableError, match="comes to no end"):
        list(store.list())


def test_the_time_is_the_servers(store: GcsStore, monkeypatch: pytest.MonkeyPatch) -> None:
    import time  # noqa: PLC0415

    store.write("x", b"1")
    blob = store.stat("x")
    assert blob is not None
    assert abs(store.now() - blob.updated) < 30
    real = time.time
    monkeypatch.setattr(time, "time", lambda: real() - 60 * 86_400)
    store.stat("x")
    assert abs(store.now() - blob.updated) < 30


def test_content_without_a_checksum_is_asked_for_it(
    gcs_server: GcsServer, store: GcsStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.write("x", LARGE)
    send = requests.adapters.HTTPAdapter.send

    def stripped(*arguments: object, **more: object) -> requests.Response:
        answer = send(*arguments, **more)  # type: ignore[arg-type]
        answer.headers.pop("x-goog-hash", None)
        return answer

    monkeypatch.setattr(requests.adapters.HTTPAdapter, "send", stripped)
    gcs_server.fault("corrupt", "download")
    assert store.read("x")[0] == LARGE
    assert store.read("x", length=(4 << 20))[0] == LARGE
