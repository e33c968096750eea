"""Kept build folders in a store: what comes back, what is sent, who may have it, and how many stay."""

from __future__ import annotations

import secrets
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest

from imagetiers.config.layout import Layout
from imagetiers.config.model import BuildFolderSettings, Trust, TrustedKey, TrustSettings
from imagetiers.errors import CorruptError, UntrustedError
from imagetiers.planning.plan import CompilePlan, Plan
from imagetiers.services import Services
from imagetiers.session import Session
from imagetiers.signing.signers import LazySigner
from imagetiers.signing.statements import counts_only_signed, must_be_signed, new_key
from imagetiers.signing.store import SignedStore
from imagetiers.state.build_folders import Folder, FolderPart, decode_folders, encode_folders, fetch, publish
from imagetiers.stores.counting import CountingStore
from imagetiers.stores.directory import DirectoryStore
from imagetiers.stores.port import Store

LINE = "name.tier.linux-amd64.debian-trixie"
PULL_REQUEST = Trust(trusted=False, branch="pr-1")


def step(number: int = 1, *, max_size: int = 1 << 20, keep: int = 2) -> CompilePlan:
    key = f"{number:064x}"
    config = SimpleNamespace(build_folder=BuildFolderSettings(max_size, keep))
    return cast("CompilePlan", SimpleNamespace(tier="tier", key=key, namespace=LINE, config=config))


class Lines(list[str]):
    def line(self, text: str) -> None:
        self.append(text)


def session(store: Store, trust: Trust | None = None) -> Session:
    services = SimpleNamespace(store=store, console=Lines(), now=lambda: 1e9)
    return Session(cast("Plan", None), Layout(Path("nowhere")), cast("Services", services), trust or Trust())


@pytest.fixture
def store(tmp_path: Path) -> DirectoryStore:
    return DirectoryStore(tmp_path / "store")


def files(folder: Path, **texts: str) -> dict[str, Path]:
    folder.mkdir(exist_ok=True)
    found = {}
    for name, text in texts.items():
        path = folder / f"{name}.tar"
        path.write_text(text)
        found[path.name] = path
    return found


def fetched(session_: Session, step_: CompilePlan, folder: Path) -> dict[str, str] | None:
    target = folder / secrets.token_hex(4)
    found = fetch(session_, step_, target)
    return None if found is None else {path.name: path.read_text() for path in target.iterdir()}


def test_a_folder_comes_back_as_it_was(store: DirectoryStore, tmp_path: Path) -> None:
    assert fetched(session(store), step(), tmp_path) is None
    assert publish(session(store), step(), files(tmp_path / "a", one="1" * 5000, two="2"))
    assert fetched(session(store), step(), tmp_path) == {"one.tar": "1" * 5000, "two.tar": "2"}
    # Of another key, the newest is taken; of this one, its own.
    assert publish(session(store), step(2), files(tmp_path / "b", one="1" * 5000, two="3"))
    assert fetched(session(store), step(1), tmp_path) == {"one.tar": "1" * 5000, "two.tar": "2"}
    assert fetched(session(store), step(3), tmp_path) == {"one.tar": "1" * 5000, "two.tar": "3"}


def test_what_is_there_is_not_sent_again_and_what_nobody_names_goes(store: DirectoryStore, tmp_path: Path) -> None:
    counting = CountingStore(store)
    publish(session(counting), step(1), files(tmp_path / "a", one="1", two="2"))
    before = counting.requests
    publish(session(counting), step(2), files(tmp_path / "b", one="1", two="3"))
    # The parts that are there, the new one, the list read and written.
    assert counting.requests - before == 4
    publish(session(store), step(3), files(tmp_path / "c", one="1", two="4"))
    names = [blob.name for blob in store.list(f"folders/{LINE}/")]
    listed = decode_folders(store.read(f"folders/{LINE}.json")[0])
    assert [folder.key for folder in listed] == [step(3).key, step(2).key]
    assert sorted(names) == sorted({f"folders/{LINE}/{part.sha256}.zst" for folder in listed for part in folder.parts})


def test_one_that_is_too_large_is_neither_kept_nor_taken(store: DirectoryStore, tmp_path: Path) -> None:
    assert publish(session(store), step(max_size=3), files(tmp_path / "a", one="1234")) is None
    assert list(store.list()) == []
    publish(session(store), step(), files(tmp_path / "a", one="1234"))
    with pytest.raises(CorruptError, match="larger than build_folder"):
        fetched(session(store), step(max_size=3), tmp_path)


def test_parts_that_are_not_what_they_were_are_refused(store: DirectoryStore, tmp_path: Path) -> None:
    made = publish(session(store), step(), files(tmp_path / "a", one="1234"))
    other = publish(session(store), step(2), files(tmp_path / "b", one="4321"))
    assert made is not None
    assert other is not None
    name = f"folders/{LINE}/{made.parts[0].sha256}.zst"
    store.write(name, store.read(f"folders/{LINE}/{other.parts[0].sha256}.zst")[0])
    with pytest.raises(CorruptError, match="is not what its name says"):
        fetched(session(store), step(), tmp_path)
    store.write(name, b"nothing that was compressed")
    with pytest.raises(CorruptError, match="cannot be decompressed"):
        fetched(session(store), step(), tmp_path)


def test_a_trusted_build_takes_nothing_of_a_pull_request(store: DirectoryStore, tmp_path: Path) -> None:
    publish(session(store, PULL_REQUEST), step(), files(tmp_path / "a", one="theirs"))
    assert {blob.name.split("/")[0] for blob in store.list()} == {"untrusted"}
    assert fetched(session(store), step(), tmp_path) is None
    assert fetched(session(store, PULL_REQUEST), step(), tmp_path) == {"one.tar": "theirs"}
    publish(session(store), step(), files(tmp_path / "b", one="ours"))
    assert fetched(session(store), step(), tmp_path) == {"one.tar": "ours"}
    other = Trust(trusted=False, branch="pr-2")
    assert fetched(session(store, other), step(), tmp_path) == {"one.tar": "ours"}


def test_a_list_that_nobody_has_signed_is_refused(store: DirectoryStore, tmp_path: Path) -> None:
    pem, public = new_key()
    settings = TrustSettings((TrustedKey("main-2026", public),), require=True)
    reader = SignedStore(store, settings, None, lambda _: None)
    publish(session(store), step(), files(tmp_path / "a", one="theirs"))
    with pytest.raises(UntrustedError):
        fetched(session(reader), step(), tmp_path)
    store.delete(f"folders/{LINE}.json")
    writer = SignedStore(store, settings, LazySigner(pem.decode(), settings), lambda _: None)
    publish(session(writer), step(), files(tmp_path / "b", one="ours"))
    assert fetched(session(reader), step(), tmp_path) == {"one.tar": "ours"}


def test_the_list_is_signed_and_nothing_else_counts() -> None:
    assert must_be_signed(f"folders/{LINE}.json")
    assert not must_be_signed(f"folders/{LINE}/{'0' * 64}.zst")
    assert counts_only_signed(f"folders/{LINE}/{'0' * 64}.zst")
    assert not counts_only_signed(f"untrusted/pr-1/folders/{LINE}.json")


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"[]",
        b'{"format": 2, "folders": []}',
        b'{"format": 1, "folders": {}}',
        b'{"format": 1, "folders": [{"key": "x", "at": 1, "parts": []}]}',
        encode_folders((Folder("0" * 64, 1.0, (FolderPart("../x.tar", "0" * 64, 1, 1),)),)),
        encode_folders((Folder("0" * 64, 1.0, (FolderPart("x.tar", "no hash", 1, 1),)),)),
        encode_folders((Folder("0" * 64, 1.0, (FolderPart("x.tar", "0" * 64, -1, 1),)),)),
        encode_folders((Folder("0" * 64, 1.0, (FolderPart("x.tar", "0" * 64, 1, 1),) * 2),)),
    ],
)
def test_lists_that_are_none_are_refused(data: bytes) -> None:
    with pytest.raises(ValueError, match=r"folder|part"):
        decode_folders(data)
