"""Content made to fill memory, and namespaces of others that end the process that reads them."""

from __future__ import annotations

import base64
import json
import os
import struct
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest
import xxhash
import zstandard

from imagetiers.ccache.apart import Report, apart
from imagetiers.ccache.format.entry import check_entry, payload_of
from imagetiers.ccache.format.head import (
    HEAD_MAX,
    Head,
    NamespaceState,
    SegmentRef,
    decode_bits,
    decode_head,
    encode_head,
)
from imagetiers.ccache.format.pack import PackRef
from imagetiers.ccache.prune import PruneOptions
from imagetiers.ccache.pull import pull
from imagetiers.ccache.push import push
from imagetiers.ccache.verify import verify
from imagetiers.config.layout import Layout
from imagetiers.config.model import Trust
from imagetiers.errors import CorruptError, StoreError
from imagetiers.operations import ccache as ccache_verbs
from imagetiers.operations import ccache_namespaces
from imagetiers.operations.ccache import prune_report, rollback_report, verify_report
from imagetiers.operations.ccache_stats import show_stats, stats_report
from imagetiers.planning.plan import Plan
from imagetiers.stores.directory import DirectoryStore
from tests.ccache.faults import FaultyStore
from tests.ccache.synthetic import make_directory, make_entry, make_name, put_entry
from tests.gcs.harness import GcsServer
from tests.soak.wheels_made import session_of

NONCE = "0" * 16
SMALL = 128 << 20
HEAD = "ccache/untrusted.x/head"


def signed(text: bytes) -> bytes:
    return text + b"\n" + xxhash.xxh3_128_hexdigest(text).encode() + b"\n"


def bomb_entry(claimed: int, real: int) -> bytes:
    """An intact entry whose header claims another payload size than its frame has."""
    data = make_entry(b"x")
    header = check_entry(data)
    head = data[: header.length - 8] + struct.pack(">Q", header.length + claimed + 16)
    body = head + zstandard.compress(bytes(real))
    return body + xxhash.xxh3_128_digest(body)


def push_bombs(folder: Path) -> Report:
    for path in (folder / "a").rglob("*"):
        if path.is_file():
            assert payload_of(path.read_bytes(), check_entry(path.read_bytes())) is None
    store = DirectoryStore(folder / "store")
    pushed = push(store, "main", folder / "a").entries
    pulled = pull(store, ["main"], folder / "b").entries
    return Report(f"{pushed} {pulled} {verify(store, 'main').ok}")


def test_an_entry_that_lies_about_its_payload_costs_no_memory(tmp_path: Path) -> None:
    for number, claimed in enumerate((0, 1, 1 << 20)):
        put_entry(tmp_path / "a", make_name(number), bomb_entry(claimed, 1 << 29))
    assert apart("bombs", partial(push_bombs, tmp_path), memory=SMALL).text == "3 3 True"


def test_a_segment_is_named_once() -> None:
    ref = SegmentRef(PackRef("ab" * 32 + "-" + NONCE, 500), 3)
    text = encode_head(Head(NamespaceState(1, segments=(ref,)))).split(b"\n")[0]
    value = json.loads(text)
    value["state"]["segments"] *= 12
    with pytest.raises(CorruptError):
        decode_head(signed(json.dumps(value).encode()))
    with pytest.raises(StoreError, match="no reader takes"):
        encode_head(Head(NamespaceState(1, segments=(ref,) * 12)))


def test_all_segments_together_have_a_bound() -> None:
    refs = tuple(SegmentRef(PackRef(f"{n:064x}-{NONCE}", 500), 2_000_000) for n in range(2))
    with pytest.raises(StoreError, match="no reader takes"):
        encode_head(Head(NamespaceState(1, segments=refs)))


def test_the_highest_number_of_a_state_is_not_exceeded() -> None:
    head = decode_head(encode_head(Head(NamespaceState(1 << 62))))
    with pytest.raises(StoreError, match="rollback --rebuild"):
        encode_head(head.followed_by(NamespaceState(), parent=""))


def decode_bombs(bits: str) -> Report:
    refused = 0
    for _ in range(20):
        try:
            decode_bits(bits, 1000)
        except CorruptError:
            refused += 1
    return Report(str(refused))


def test_bits_of_a_few_bytes_cost_no_memory() -> None:
    bits = base64.b64encode(zstandard.compress(bytes(1 << 29))).decode()
    assert apart("bits", partial(decode_bombs, bits), memory=SMALL).text == "20"


@pytest.mark.parametrize("name", ["head", "packs", "index"])
def test_what_is_larger_than_it_may_be_is_not_read_whole(store: DirectoryStore, tmp_path: Path, name: str) -> None:
    make_directory(tmp_path / "a", 5)
    push(store, "main", tmp_path / "a")
    names = [blob.name for blob in store.list(f"ccache/main/{name}") if blob.name != "ccache/main/clock"]
    size = HEAD_MAX + 5_000_000
    for one in names:
        store.write(one, bytes(size))
    read: list[int] = []
    counting = FaultyStore(store)
    inner = counting.read

    def noted(name: str, *, start: int = 0, length: int | None = None) -> tuple[bytes, int]:
        data, generation = inner(name, start=start, length=length)
        read.append(len(data))
        return data, generation

    counting.read = noted  # type: ignore[method-assign]
    assert pull(counting, ["main"], tmp_path / "b").quarantined
    assert max(read) <= HEAD_MAX + 1


def hungry() -> Report:
    return Report(str(len(bytes(3 << 30))))


def forever() -> Report:
    import threading  # noqa: PLC0415

    threading.Event().wait(600)
    return Report("")


def dies() -> Report:
    os._exit(7)


def raises() -> Report:
    raise ValueError("\x1b[2J")


@pytest.mark.parametrize(
    ("work", "text"),
    [
        (hungry, "it takes more than 128 MiB"),
        (dies, "the process that read it ended with 7"),
        (raises, "ValueError"),
    ],
)
def test_whatever_happens_to_that_process_is_told(work: object, text: str) -> None:
    with pytest.raises(StoreError, match=f"untrusted.x: was left alone: {text}"):
        apart("untrusted.x", work, memory=SMALL)  # type: ignore[arg-type]


def test_a_process_that_comes_to_no_end_is_ended() -> None:
    with pytest.raises(StoreError, match="took more than 3 s"):
        apart("untrusted.x", forever, seconds=3.0)


@pytest.mark.parametrize("poison", ["nan", "deep", "garbage"])
def test_a_poisoned_namespace_is_told_and_another_is_served(gcs_server: GcsServer, tmp_path: Path, poison: str) -> None:
    store = gcs_server.store(f"poison-{poison}")
    make_directory(tmp_path / "a", 5)
    push(store, "untrusted.y", tmp_path / "a")
    text = encode_head(Head(NamespaceState(1, 2.5))).split(b"\n")[0]
    made = {"nan": text.replace(b"2.5", b"NaN"), "deep": b"[" * 200_000, "garbage": b"\xff"}[poison]
    store.write(HEAD, signed(made))
    options = PruneOptions()
    work: list[Callable[[str], Callable[[], Report]]] = [
        lambda name: partial(prune_report, store, name, options, dry_run=False, accept_loss=False),
        lambda name: partial(stats_report, store, name),
        lambda name: partial(verify_report, store, name, None, drop_bad=False, accept_loss=False),
        lambda name: partial(rollback_report, store, name, to=None, from_index=False, accept_loss=False),
    ]
    push(store, "untrusted.y", tmp_path / "a")
    for one in work:
        with pytest.raises(StoreError, match="cut off or garbled"):
            apart("untrusted.x", one("untrusted.x"))
        assert "5" in apart("untrusted.y", one("untrusted.y")).text


def test_every_verb_reads_a_namespace_of_others_in_a_process_of_its_own(
    store: DirectoryStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_directory(tmp_path / "a", 5)
    own, others = (f"{level}.p.deb.ccache-4.14" for level in ("trusted.main", "untrusted.pr-7"))
    for name in (own, others):
        for _ in range(2):
            push(store, name, tmp_path / "a")
    session, console = session_of(store, Layout(tmp_path / "checkout"), Trust(), lambda: 0.0)
    plan = cast("Plan", SimpleNamespace(pipeline=SimpleNamespace(name="p")))
    session = replace(session, plan=plan, services=replace(session.services, bucket_settings=lambda: None))
    monkeypatch.setattr(type(console), "progress", lambda *_: nullcontext(), raising=False)
    monkeypatch.setattr(ccache_verbs, "BarProgress", lambda _: None)

    def noted(name: str, work: Callable[[], Report]) -> Report:
        asked.append(name)
        return apart(name, work)

    monkeypatch.setattr(ccache_namespaces, "apart", noted)
    verbs: dict[str, Callable[[str], None]] = {
        "stats": lambda name: show_stats(session, namespace=name),
        "verify": lambda name: ccache_verbs.verify_all(
            session, namespace=name, drop_bad=False, accept_loss=False, repair=False
        ),
        "prune": lambda name: ccache_verbs.prune_all(
            session, namespace=name, options=PruneOptions(), dry_run=True, accept_loss=False
        ),
        "rollback": lambda name: ccache_verbs.rollback_one(
            session, namespace=name, to=None, from_index=False, accept_loss=False, accept_unsigned=False
        ),
        "rebuild": lambda name: ccache_verbs.rollback_one(
            session, namespace=name, to=None, from_index=True, accept_loss=False, accept_unsigned=True
        ),
    }
    for verb, call in verbs.items():
        for name in (own, others):
            asked: list[str] = []
            call(name)
            assert asked == ([others] if name == others else []), verb


def test_a_large_entry_of_another_size_is_not_fetched(store: DirectoryStore, tmp_path: Path) -> None:
    name = make_name(7)
    put_entry(tmp_path / "a", name, make_entry(os.urandom(7 << 20)))
    push(store, "main", tmp_path / "a")
    (pack,) = store.list("ccache/main/packs/")
    store.write(pack.name, bytes(pack.size + 1))
    fetched = FaultyStore(store)
    result = pull(fetched, ["main"], tmp_path / "b")
    assert len(result.quarantined) == 1
    assert ("read", pack.name) not in fetched.calls
