"""Signing in a soak: trusted machines have one of two keys, readers believe nothing unsigned (`trust: {require: true}`).

Pull requests have no key. Somebody who may write the bucket forges wheels: others' signed ones under another key's name, or
ones without a signature.
"""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

from imagetiers.config.model import TrustedKey, TrustSettings
from imagetiers.errors import UntrustedError
from imagetiers.signing.signers import LazySigner
from imagetiers.signing.statements import LINE_MAX, Keyring, find_trailer, must_be_signed, new_key, read_document
from imagetiers.signing.store import SignedStore
from imagetiers.stores.port import Store

_NAMES = ("first", "second")


def make_keys(folder: Path) -> TrustSettings:
    """Make the keys, in a folder that all processes of the soak read."""
    folder.mkdir()
    keys = []
    for name in _NAMES:
        pem, public = new_key()
        (folder / f"{name}.pem").write_bytes(pem)
        keys.append(TrustedKey(name, public))
    (folder / "keys.json").write_text(json.dumps([asdict(key) for key in keys]))
    return TrustSettings(tuple(keys), require=True)


def signing(store: Store, folder: Path, machine: int, *, trusted: bool) -> Store:
    """Return the store as a build of this machine has it; without keys in the folder as it is."""
    if not folder.is_dir():
        return store
    settings = TrustSettings(tuple(TrustedKey(**key) for key in json.loads((folder / "keys.json").read_text())), True)  # noqa: FBT003
    pem = folder / f"{_NAMES[machine // 2 % len(_NAMES)]}.pem"
    return SignedStore(store, settings, LazySigner(str(pem), settings) if trusted else None, lambda _: None)


def content_of(name: str, data: bytes, keys: TrustSettings) -> bytes:
    """Return what readers take of a document; raises UntrustedError where they take nothing."""
    if not keys.require or not must_be_signed(name):
        return data
    content, claim = read_document(data, name)
    if claim is None:
        raise UntrustedError.of(name, "is not signed")
    Keyring(keys.keys).check(claim, name)
    return content


def forged(wheels: bytes, name: str, *, stripped: bool) -> bytes:
    """Return wheels that nobody may take under another name: as they are, or without their signature."""
    found = find_trailer(wheels[-LINE_MAX:], name)
    return wheels[: -found[0]] if stripped and found else wheels
