"""What GcsStore makes of a bad network and a bad server: the right result or the right error, never a wrong result."""

from __future__ import annotations

import contextlib
import logging
import os
import random
import subprocess
import sys
import time
import uuid
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from google.api_core import exceptions as api
from google.cloud import storage

from imagetiers.errors import (
    CorruptError,
    ForbiddenError,
    NotFoundError,
    PreconditionError,
    StoreError,
    UnavailableError,
)
from imagetiers.retry import RetryPolicy
from imagetiers.stores import gcs as store_gcs
from imagetiers.stores import gcs_errors, gcs_http
from imagetiers.stores.gcs import GcsStore
from tests.gcs.harness import BUCKET, QUICK, GcsServer

QUANTUM = 256 * 1024
OLD, NEW = b"old" * 1000, b"new!" * 1000
LARGE = random.Random(1).randbytes(9 * QUANTUM + 17)
BRIEF = replace(QUICK, total=0.1)


@dataclass
class Case:
    """A method of the port on an object that holds OLD, and what must hold after it has returned."""

    op: str  # what the fault hits
    call: Callable[[GcsStore, int, Path], object]
    after: bytes | None  # the object's content then


def _file(path: Path, data: bytes) -> Path:
    path.write_bytes(data)
    return path


def _read_back(store: GcsStore, path: Path) -> bytes:
    store.read_file("x", path)
    return path.read_bytes()


def _into(store: GcsStore, start: int, room: int) -> bytes:
    memory = memoryview(bytearray(room))
    return bytes(memory[: store.read_into("x", memory, start=start)])


def _create(store: GcsStore) -> int:
    store.delete("x")
    return store.write("x", NEW, if_generation=0)


CASES = {
    "read": Case("download", lambda s, g, _: _is(s.read("x"), (OLD, g)), OLD),
    "read-range": Case("download", lambda s, g, _: _is(s.read("x", start=5, length=9), (OLD[5:14], g)), OLD),
    "read-into": Case("download", lambda s, _, __: _is(_into(s, 0, len(OLD) + 9), OLD), OLD),
    "range-into": Case("download", lambda s, _, __: _is(_into(s, 5, 9), OLD[5:14]), OLD),
    "read-file": Case("download", lambda s, _, p: _is(_read_back(s, p / "out"), OLD), OLD),
    "create": Case("insert", lambda s, _, __: _create(s), NEW),
    "swap": Case("insert", lambda s, g, _: s.write("x", NEW, if_generation=g), NEW),
    "overwrite": Case("insert", lambda s, _, __: s.write("x", NEW), NEW),
    "write-file": Case("insert", lambda s, g, p: s.write_file("x", _file(p / "in", NEW), if_generation=g), NEW),
    "large-start": Case("resumable", lambda s, g, p: s.write_file("x", _file(p / "in", LARGE), if_generation=g), LARGE),
    "large": Case("chunk", lambda s, g, p: s.write_file("x", _file(p / "in", LARGE), if_generation=g), LARGE),
    "stat": Case("get", lambda s, g, _: _is(_seen(s), (len(OLD), g)), OLD),
    "list": Case("list", lambda s, g, _: _is([b.generation for b in s.list()], [g]), OLD),
    "delete": Case("delete", lambda s, _, __: s.delete("x"), None),
    "delete-if": Case("delete", lambda s, g, _: s.delete("x", if_generation=g), None),
}
FAULTS = ["delay", "408", "429", "500", "503", "reset", "cut", "truncate", "corrupt", "duplicate"]
UNCHECKED = {"read-range", "read-into", "range-into"}  # who asks for these checks them by what they know of them


def _is(actual: object, expected: object) -> object:
    assert actual == expected
    return actual


def _seen(store: GcsStore) -> tuple[int, int]:
    blob = store.stat("x")
    assert blob
    return blob.size, blob.generation


def inject(server: GcsServer, fault: str, op: str, **more: object) -> None:
    if fault.isdigit():
        server.fault("status", op, status=int(fault), **more)
    else:
        server.fault(fault, op, seconds=0.05 if fault == "delay" else 0.0, **more)


@pytest.fixture
def _small_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make resumable uploads of small ones, for speed; test_conformance.py and the costs below use the real limit."""
    monkeypatch.setattr(storage.blob, "_MAX_MULTIPART_SIZE", QUANTUM)
    monkeypatch.setattr(gcs_http, "_WHOLE", QUANTUM)


@pytest.fixture
def store(gcs_server: GcsServer) -> GcsStore:
    return gcs_server.store(f"faults/{uuid.uuid4().hex}")


@pytest.mark.usefixtures("_small_limit")
@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("method", CASES)
def test_a_fault_is_survived(gcs_server: GcsServer, store: GcsStore, method: str, fault: str, tmp_path: Path) -> None:
    if method in UNCHECKED and fault == "corrupt":
        pytest.skip("it is not checked")
    case, generation = CASES[method], store.write("x", OLD)
    inject(gcs_server, fault, case.op)
    try:
        result = case.call(store, generation, tmp_path)
    except PreconditionError:
        # Delivered twice without our knowing: gone is all that the second answer says.
        assert (method, fault) == ("delete-if", "duplicate")
    else:
        if case.after in (NEW, LARGE):
            assert store.stat("x") is not None
            assert store.read("x") == (case.after, result)
    assert any(entry["fault"] for entry in gcs_server.log()), "the fault was not met"
    assert [b.name for b in store.list()] == ([] if case.after is None else ["x"])
    if case.after is not None:
        assert store.read("x")[0] == case.after


@pytest.mark.usefixtures("_small_limit")
@pytest.mark.parametrize("fault", ["429", "reset", "truncate", "corrupt"])
@pytest.mark.parametrize("method", CASES)
def test_a_fault_without_end(gcs_server: GcsServer, store: GcsStore, method: str, fault: str, tmp_path: Path) -> None:
    case, generation = CASES[method], store.write("x", OLD)
    brief = gcs_server.store(store.url.removeprefix(f"gs://{BUCKET}/"), policy=BRIEF)
    inject(gcs_server, fault, case.op, times=0)
    started = time.monotonic()
    if fault == "corrupt" and case.op not in ("download", "insert", "chunk"):
        pytest.skip("nothing to corrupt")
    if method in UNCHECKED and fault == "corrupt":
        pytest.skip("it is not checked")
    if fault == "truncate" and case.op in ("delete", "resumable"):
        pytest.skip("no body to truncate")
    if method == "large" and fault == "truncate":
        # The upload is done and only its answer is broken: if there is time for one more try, it finds its own write.
        with contextlib.suppress(UnavailableError):
            case.call(brief, generation, tmp_path)
        assert store.read("x")[0] == LARGE
        return
    with pytest.raises(CorruptError if fault == "corrupt" else UnavailableError, match="tried") as caught:
        case.call(brief, generation, tmp_path)
    assert time.monotonic() - started < 30
    assert store.url in str(caught.value)
    assert "hint:" in str(caught.value)
    gcs_server.config(clear=True)
    assert not (tmp_path / "out").exists()
    if method != "create" and fault in ("429", "503", "reset", "corrupt"):
        assert store.read("x") == (OLD, generation)


@pytest.mark.usefixtures("_small_limit")
@pytest.mark.parametrize("method", CASES)
def test_412_out_of_the_blue(gcs_server: GcsServer, store: GcsStore, method: str, tmp_path: Path) -> None:
    case, generation = CASES[method], store.write("x", OLD)
    inject(gcs_server, "412", case.op)
    with pytest.raises(PreconditionError if case.after != OLD else StoreError):
        case.call(store, generation, tmp_path)


# the answer to a write is lost


@pytest.mark.usefixtures("_small_limit")
@pytest.mark.parametrize("expected", ["create", "swap"])
@pytest.mark.parametrize("size", [10, len(LARGE)])
def test_our_own_write_is_known_again(gcs_server: GcsServer, store: GcsStore, expected: str, size: int) -> None:
    before = store.write("x", b"before") if expected == "swap" else 0
    gcs_server.config(clear=True)
    gcs_server.fault("cut", "insert" if size == 10 else "chunk")
    generation = store.write("x", LARGE[:size], if_generation=before)
    assert store.read("x") == (LARGE[:size], generation)
    if size == 10:
        assert [(e["op"], e["status"]) for e in gcs_server.log()][:3] == [
            ("insert", 200),
            ("insert", 412),
            ("get", 200),
        ]


@pytest.mark.parametrize("expected", ["create", "swap"])
@pytest.mark.parametrize("fault", ["reset", "cut"])
def test_another_writer_in_the_pause(
    gcs_server: GcsServer, store: GcsStore, expected: str, fault: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between a failed try and the next one somebody else writes the very same bytes: that is not our write."""
    before = store.write("x", b"before") if expected == "swap" else 0
    other = gcs_server.store(store.url.removeprefix(f"gs://{BUCKET}/"))
    theirs: list[int] = []
    monkeypatch.setattr(time, "sleep", lambda _: theirs.append(other.write("x", b"same")))
    gcs_server.fault(fault, "insert")
    with pytest.raises(PreconditionError):
        store.write("x", b"same", if_generation=before)
    assert store.read("x") == (b"same", theirs[0])


def test_the_answer_to_a_delete_is_lost(gcs_server: GcsServer, store: GcsStore) -> None:
    generation = store.write("x", b"1")
    gcs_server.fault("cut", "delete")
    store.delete("x", if_generation=generation)
    assert store.stat("x") is None


def test_too_slow_an_answer(gcs_server: GcsServer, store: GcsStore) -> None:
    hasty = gcs_server.store(store.url.removeprefix(f"gs://{BUCKET}/"), policy=replace(QUICK, answer=0.3))
    gcs_server.fault("delay", "insert", seconds=1.5)
    generation = hasty.write("x", b"1", if_generation=0)
    time.sleep(1.5)  # the first delivery arrives now, if it was not dropped, and must change nothing
    assert store.read("x") == (b"1", generation)


# large objects


@pytest.mark.usefixtures("_small_limit")
@pytest.mark.parametrize("fault", ["503", "429", "reset", "cut", "truncate", "corrupt", "duplicate", "404", "410"])
def test_a_chunk_in_the_middle(
    gcs_server: GcsServer, store: GcsStore, fault: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gcs_http, "_CHUNK", QUANTUM)
    inject(gcs_server, fault, "chunk", skip=4)
    generation = store.write_file("x", _file(tmp_path / "in", LARGE), if_generation=0)
    assert store.read("x") == (LARGE, generation)
    restarted = fault in ("corrupt", "404", "410")
    assert gcs_server.requests() <= (30 if restarted else 16), "a chunk's fault must not send all again"


@pytest.mark.parametrize("fault", ["503", "reset", "truncate", "corrupt"])
def test_a_slice_in_the_middle(
    gcs_server: GcsServer, store: GcsStore, fault: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store_gcs, "_SLICE", QUANTUM)
    generation = store.write("x", LARGE)
    inject(gcs_server, fault, "download", skip=4)
    assert store.read_file("x", tmp_path / "out") == generation
    assert (tmp_path / "out").read_bytes() == LARGE


@pytest.mark.parametrize("size", [3 * QUANTUM, 3 * QUANTUM + 1])
def test_replaced_between_slices(store: GcsStore, size: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store_gcs, "_SLICE", QUANTUM)
    store.write("x", b"1" * size)
    get, seen = gcs_http.GcsHttp.get, list[int]()

    def get_then_replace(wire: gcs_http.GcsHttp, *arguments: object) -> gcs_http.Content:
        content = get(wire, *arguments)  # type: ignore[arg-type]
        if len(seen) < 2:
            seen.append(store.write("x", b"2" * (size + len(seen))))
        return content

    monkeypatch.setattr(gcs_http.GcsHttp, "get", get_then_replace)
    assert store.read_file("x", tmp_path / "out") == seen[-1]
    assert (tmp_path / "out").read_bytes() == b"2" * (size + 1)


def test_removed_between_slices(store: GcsStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store_gcs, "_SLICE", 10)
    store.write("x", b"1" * 100)
    get = gcs_http.GcsHttp.get

    def get_then_delete(wire: gcs_http.GcsHttp, *arguments: object) -> gcs_http.Content:
        content = get(wire, *arguments)  # type: ignore[arg-type]
        store.delete("x")
        return content

    monkeypatch.setattr(gcs_http.GcsHttp, "get", get_then_delete)
    with pytest.raises(NotFoundError):
        store.read_file("x", tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


# limits and costs


def test_one_write_a_second(gcs_server: GcsServer, store: GcsStore) -> None:
    patient = gcs_server.store(store.url.removeprefix(f"gs://{BUCKET}/"), policy=replace(QUICK, throttled=1.0))
    gcs_server.fault("status", "insert", status=429)
    started = time.monotonic()
    patient.write("head", b"1", if_generation=0)
    assert time.monotonic() - started >= 1.0
    assert [entry["status"] for entry in gcs_server.log()] == [429, 200]


def test_a_busy_head_is_written_in_the_end(gcs_server: GcsServer, store: GcsStore) -> None:
    """With the rule of one write a second in force; whoever is refused comes back later, and nothing is lost."""
    patient = gcs_server.store(store.url.removeprefix(f"gs://{BUCKET}/"), policy=replace(QUICK, throttled=0.3))
    gcs_server.config(one_write_per_second=True)
    generation = 0
    for content in (b"1", b"2"):
        generation = patient.write("head", content, if_generation=generation)
    assert store.read("head") == (b"2", generation)


def test_pauses_grow_are_bounded_and_differ() -> None:
    policy = RetryPolicy(first=0.5, most=4.0)
    for tries, bound in [(1, 0.5), (2, 1.0), (4, 4.0), (50, 4.0), (5000, 4.0)]:
        pauses = [policy.pause(tries, throttled=False) for _ in range(200)]
        assert 0 <= min(pauses) < bound / 4
        assert bound / 2 < max(pauses) <= bound
    throttled = [policy.pause(1, throttled=True) for _ in range(200)]
    assert 1.0 <= min(throttled) < max(throttled) <= 2.0


def test_how_many_requests(gcs_server: GcsServer, store: GcsStore, tmp_path: Path) -> None:
    assert store.requests == 0

    def cost(call: Callable[[], object]) -> int:
        before, seen = store.requests, gcs_server.requests()
        call()
        assert store.requests - before == gcs_server.requests() - seen
        return store.requests - before

    eight_mib = _file(tmp_path / "in", bytes(8 << 20))
    assert cost(lambda: store.write("x", bytes(8 << 20), if_generation=0)) == 1
    assert cost(lambda: store.write_file("y", eight_mib, if_generation=0)) == 1
    assert cost(lambda: store.write("z", bytes((8 << 20) + 1))) == 2
    assert cost(lambda: store.read("x")) == 1
    assert cost(lambda: store.read("x", start=5, length=5)) == 1
    assert cost(lambda: store.read_file("x", tmp_path / "out")) == 1
    assert cost(lambda: list(store.list())) == 1
    assert cost(lambda: store.stat("x")) == 1
    assert cost(lambda: store.delete("x")) == 1


def test_as_many_connections_as_threads(store: GcsStore, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING)
    with ThreadPoolExecutor(16) as pool:
        list(pool.map(lambda i: store.write(f"{i}", b"x" * 10_000), range(200)))
        list(pool.map(lambda i: store.read(f"{i}"), range(200)))
    assert caplog.text == ""


# what a person is told


@pytest.mark.parametrize(
    ("status", "message", "error", "texts"),
    [
        (
            401,
            "Invalid Credentials",
            ForbiddenError,
            ["gcloud auth application-default login"],
        ),
        (
            *(403, "me@x does not have storage.objects.create access"),
            *(ForbiddenError, ["storage.objects.create", f"grant roles/storage.objectUser on gs://{BUCKET}"]),
        ),
        (403, "no storage.objects.get access", ForbiddenError, [f"grant roles/storage.objectViewer on gs://{BUCKET}"]),
        (400, "no such thing", StoreError, ["refused (400): no such thing"]),
    ],
)
def test_refusals(
    gcs_server: GcsServer, store: GcsStore, status: int, message: str, error: type[StoreError], texts: list[str]
) -> None:
    calls: list[Callable[[], object]] = [lambda: store.write("x", b""), lambda: list(store.list())]
    if status != 401:  # google.auth then leaves the answer's socket open, for the collector: a ResourceWarning here
        calls.append(lambda: store.read("x"))
    for call in calls:
        gcs_server.fault("status", status=status, message=message, times=2)
        with pytest.raises(error) as caught:
            call()
        assert type(caught.value) is error
        assert str(caught.value).startswith(store.url)
        for text in texts:
            assert text in str(caught.value)


def test_what_a_status_means() -> None:
    for status in (408, 429, 500, 502, 503, 504):
        judgement = gcs_errors.judge(api.from_http_status(status, "text"), "where", "bucket")
        assert isinstance(judgement.error, UnavailableError)
        assert (judgement.tries, judgement.throttled) == (None, status == 429)
    refused = gcs_errors.judge(api.from_http_status(401, "text"), "where", "bucket")
    assert isinstance(refused.error, ForbiddenError)
    assert (refused.tries, "not authenticated (401)" in str(refused.error)) == (2, True)
    for error in (RuntimeError("x"), api.from_http_status(409, "x"), api.from_http_status(411, "x")):
        judgement = gcs_errors.judge(error, "where", "bucket")
        assert (type(judgement.error), judgement.tries) == (StoreError, 1)


def test_there_is_no_such_bucket(gcs_server: GcsServer, tmp_path: Path) -> None:
    store = gcs_server.store(bucket="not-there")
    calls: list[Callable[[], object]] = [
        lambda: store.read("x"),
        lambda: store.read_file("x", tmp_path / "x"),
        lambda: store.write("x", b""),
        lambda: store.write("x", LARGE),
        lambda: store.stat("x"),
        lambda: list(store.list()),
        lambda: store.delete("x"),
        lambda: store.delete("x", if_generation=5),
    ]
    for call in calls:
        with pytest.raises(StoreError, match="gs://not-there: there is no such bucket") as caught:
            call()
        assert type(caught.value) is StoreError  # not NotFoundError: a cache that is missing is not a cold one
        assert "gcloud storage buckets create gs://not-there" in str(caught.value)


def test_nobody_answers() -> None:
    store = GcsStore(BUCKET, endpoint="http://127.0.0.1:9", policy=BRIEF)
    with pytest.raises(UnavailableError, match=r"connection failed: .*tried \d+ x"):
        store.read("x")
    store.close()


def test_no_credentials(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in ("GOOGLE_APPLICATION_CREDENTIALS", "STORAGE_EMULATOR_HOST", "CLOUDSDK_CONFIG"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("NO_GCE_CHECK", "true")
    monkeypatch.setenv("PATH", str(tmp_path))
    store = GcsStore("some-bucket", "prefix", policy=BRIEF)
    with pytest.raises(ForbiddenError, match="no usable credentials") as caught:
        store.read("x")
    assert "hint: run `gcloud auth application-default login`" in str(caught.value)


def test_making_one_imports_and_does_nothing() -> None:
    program = """
import sys
from pathlib import Path
from imagetiers.stores.open import open_store
store = open_store("gs://some-bucket/prefix", Path())
heavy = [name for name in sys.modules if name.split(".")[0] in ("google", "requests", "urllib3")]
print(store.url, sorted(set(heavy) - {"google", "google.cloud"}))  # two folders, looked into for the client
"""
    environment = {**os.environ, "STORAGE_EMULATOR_HOST": "http://127.0.0.1:9"}
    command = [sys.executable, "-W", "ignore", "-c", program]
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    assert done.stdout.strip() == "gs://some-bucket/prefix []"


@pytest.mark.parametrize("scheme", ["http://", ""])
def test_the_emulator_from_the_environment(gcs_server: GcsServer, scheme: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", scheme + gcs_server.url.removeprefix("http://"))
    store = GcsStore(BUCKET, f"/{uuid.uuid4().hex}/")
    store.write("x", b"1")
    assert store.read("x")[0] == b"1"
    store.close()
    assert store.read("x")[0] == b"1"  # connects again
    store.close()


def test_foreign_objects_are_not_listed(store: GcsStore, gcs_server: GcsServer) -> None:
    store.write("x", b"")
    prefix = store.url.removeprefix(f"gs://{BUCKET}/").replace("/", "%2F")
    target = f"/upload/storage/v1/b/{BUCKET}/o?uploadType=media&name={prefix}%2F"
    gcs_server.request("POST", target, b"")  # a folder marker, as the console makes them
    assert [blob.name for blob in store.list()] == ["x"]
