"""Buckets that an imagetiers of format 1 has written, and workers of that version that meet a bucket of format 2."""

from __future__ import annotations

from pathlib import Path

import pytest

from imagetiers.ccache.format.entry import path_of
from imagetiers.ccache.format.head import Head, decode_head
from imagetiers.ccache.format.pack import Codec
from imagetiers.ccache.namespace import Namespace
from imagetiers.ccache.packing import Pack
from imagetiers.ccache.prune import GRACE_MIN, PruneOptions, prune
from imagetiers.ccache.pull import pull
from imagetiers.ccache.push import push
from imagetiers.ccache.rollback import rollback
from imagetiers.ccache.stats import stats
from imagetiers.ccache.verify import verify
from imagetiers.errors import CorruptError
from imagetiers.stores.directory import DirectoryStore
from tests.ccache import format_1
from tests.ccache.compressed import compressed_pack
from tests.ccache.downgrade import write_as_format_1
from tests.ccache.synthetic import entries_in, make_directory

HEAD = "ccache/main/head"


def as_format_1(store: DirectoryStore) -> None:
    write_as_format_1(store, "main")
    for folder in ("sets", "notes"):
        for blob in list(store.list(f"ccache/main/{folder}/")):
            store.delete(blob.name)


def test_a_bucket_of_format_1_is_read_and_goes_on(store: DirectoryStore, tmp_path: Path) -> None:
    a = tmp_path / "a"
    made = make_directory(a, 30)
    push(store, "main", a, step="torch")
    made |= make_directory(a, 20, seed=1)
    push(store, "main", a, step="vision", good=False)
    before = stats(store, "main")
    as_format_1(store)
    assert stats(store, "main").uses == before.uses
    assert [state[0] for state in stats(store, "main").history] == [state[0] for state in before.history]
    pull(store, ["main"], tmp_path / "b", step="torch")
    assert len(entries_in(tmp_path / "b")) == 30
    assert verify(store, "main").ok
    more = make_directory(a, 10, seed=2)
    assert push(store, "main", a, step="torch").pushed == frozenset(more)
    assert b'"format":2' in store.read(HEAD)[0]
    pull(store, ["main"], tmp_path / "c", everything=True)
    assert entries_in(tmp_path / "c") == made | more
    rollback(store, "main", to=1)
    assert list(Namespace(store, "main").load().view.head.state.uses) == [("torch", "good")]


def test_what_format_1_had_noted_is_still_deleted(store: DirectoryStore, tmp_path: Path) -> None:
    make_directory(tmp_path / "a", 5)
    push(store, "main", tmp_path / "a")
    left = f"ccache/main/packs/{'ab' * 32}-{'0' * 16}"
    store.write(left, b"left behind")
    options = PruneOptions(grace=GRACE_MIN, keep_history=0)
    prune(store, "main", options)
    as_format_1(store)
    at = Namespace(store, "main").now() + GRACE_MIN + 60
    prune(store, "main", options, clock=lambda: at)
    assert store.stat(left) is None


def test_a_worker_of_format_1_refuses_format_2_in_words(store: DirectoryStore, tmp_path: Path) -> None:
    make_directory(tmp_path / "a", 5)
    push(store, "main", tmp_path / "a")
    with pytest.raises(CorruptError, match="a newer imagetiers may have written it"):
        format_1.decode_head(store.read(HEAD)[0], HEAD)


def test_a_format_to_come_is_refused_in_words() -> None:
    data = format_1.encode_head(format_1.Head()).split(b"\n")[0].replace(b'"format":1', b'"format":3')
    from xxhash import xxh3_128_hexdigest  # noqa: PLC0415

    with pytest.raises(CorruptError, match="a newer imagetiers may have written it"):
        decode_head(data + b"\n" + xxh3_128_hexdigest(data).encode() + b"\n")
    assert decode_head(format_1.encode_head(format_1.Head())) == Head()


def test_packs_that_were_compressed_are_read_and_compacted_to_files_as_they_are(
    store: DirectoryStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    a = tmp_path / "a"
    made = make_directory(a, 60)
    with monkeypatch.context() as before:
        before.setattr(Pack, "do", compressed_pack)
        assert push(store, "main", a, step="torch").stored_bytes < sum(map(len, made.values()))
    assert verify(store, "main").ok
    pull(store, ["main"], tmp_path / "b", step="torch")
    assert entries_in(tmp_path / "b") == made

    for name in list(made)[5:]:
        (tmp_path / "b" / path_of(name)).unlink()
    push(store, "main", tmp_path / "b", step="torch")  # the last two good runs need five of them
    push(store, "main", tmp_path / "b", step="torch")
    few = dict(list(made.items())[:5])
    options = PruneOptions(max_bytes=sum(map(len, few.values())), keep_history=0, live_share=0.9)
    assert prune(store, "main", options).compacted == 1
    live = [entry.section.codec for entry in Namespace(store, "main").load().view.live.values()]
    assert set(live) == {Codec.VERBATIM}
    pull(store, ["main"], tmp_path / "c", everything=True)
    assert entries_in(tmp_path / "c").items() <= made.items()
    assert len(entries_in(tmp_path / "c")) == len(live)
