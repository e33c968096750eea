"""Signed objects: what is accepted, and everything around it that is not."""

from __future__ import annotations

import base64
import json
import stat
import subprocess
import sys
import tarfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from imagetiers.config.model import TrustedKey, TrustSettings
from imagetiers.errors import CorruptError, ForbiddenError, PreconditionError, StoreError, UntrustedError
from imagetiers.signing import store as store_signed
from imagetiers.signing.signers import LazySigner, PemSigner, open_signer
from imagetiers.signing.statements import (
    MAGIC,
    Keyring,
    Statement,
    must_be_signed,
    new_key,
    purpose_of,
    read_document,
    signed_line,
    to_sign,
)
from imagetiers.signing.store import SignedStore
from imagetiers.stores.directory import DirectoryStore
from imagetiers.stores.port import Store

PEM, PUBLIC = new_key()
OTHER_PEM, OTHER_PUBLIC = new_key()
KEY = TrustedKey("main-2026", PUBLIC)
OTHER = TrustedKey("next", OTHER_PUBLIC)
REQUIRED = TrustSettings((KEY,), require=True)
VERDICT = "verdicts/ab12/cd34.json"
HEAD = "ccache/trusted.main.ccache-4.14/head"
NAMES = [VERDICT, HEAD, "published/host/image:k-1.json", "keys/abc.json"]
PASSED = b'{"passed": true}'

Opened = Callable[..., SignedStore]


@pytest.fixture
def folder(tmp_path: Path) -> Store:
    return DirectoryStore(tmp_path / "cache")


@pytest.fixture
def told() -> list[str]:
    return []


@pytest.fixture
def opened(folder: Store, told: list[str]) -> Opened:
    def make(settings: TrustSettings = REQUIRED, pem: bytes | None = PEM) -> SignedStore:
        signer = LazySigner(pem.decode(), settings) if pem is not None else None
        return SignedStore(folder, settings, signer, told.append)

    return make


def sealed(name: str, content: bytes, *, pem: bytes = PEM, key: TrustedKey = KEY, at: float = 1e9) -> bytes:
    statement = Statement.of(name, content, key, at).encode()
    return signed_line(statement, PemSigner(pem).sign(to_sign(statement, purpose_of(name)))) + content


@pytest.mark.parametrize("name", NAMES)
def test_what_was_signed_is_read(opened: Opened, folder: Store, name: str) -> None:
    generation = opened().write(name, PASSED, if_generation=0)

    assert opened(pem=None).read(name) == (PASSED, generation)
    assert opened(pem=None).read(name, start=2, length=100)[0] == PASSED[2:]
    assert folder.read(name)[0].startswith(MAGIC)


@pytest.mark.parametrize("name", NAMES)
def test_what_is_not_signed_does_not_count_where_it_is_required(opened: Opened, folder: Store, name: str) -> None:
    folder.write(name, PASSED)

    with pytest.raises(UntrustedError, match="is not signed"):
        opened().read(name)


@pytest.mark.parametrize(
    ("moved", "says"),
    [
        (sealed("verdicts/ab12/other.json", PASSED), "was signed as 'verdicts/ab12/other.json'"),
        (sealed(VERDICT, PASSED, pem=OTHER_PEM), "that is not its signature"),
        (sealed(VERDICT, PASSED, pem=OTHER_PEM, key=OTHER), "'next' has signed it, whom this pipeline does not trust"),
        (sealed(VERDICT, PASSED)[:-1] + b"]", "its content is not what was signed"),
        (sealed(VERDICT, PASSED) + b" ", "its content is not what was signed"),
        (MAGIC + b"AAAA AAAA\n" + PASSED, "its signature cannot be read"),
        (signed_line(b"[" * 2000, bytes(64)) + PASSED, "its signature cannot be read"),
        (signed_line(b'{"at": NaN}', bytes(64)) + PASSED, "its signature cannot be read"),
    ],
)
def test_what_is_signed_wrongly_is_refused_in_words(opened: Opened, folder: Store, moved: bytes, says: str) -> None:
    folder.write(VERDICT, moved)

    with pytest.raises(UntrustedError) as error:
        opened().read(VERDICT)
    assert says in str(error.value)


def test_a_signature_for_another_purpose_is_refused() -> None:
    statement = replace(Statement.of(VERDICT, PASSED, KEY, 1e9), purpose="keys")
    line = signed_line(statement.encode(), PemSigner(PEM).sign(to_sign(statement.encode(), "keys")))
    _, claim = read_document(line + PASSED, VERDICT)

    assert claim is not None
    with pytest.raises(UntrustedError, match="something else"):
        Keyring([KEY]).check(claim, VERDICT)


def test_no_flipped_bit_gets_through() -> None:
    whole = sealed(VERDICT, PASSED)
    for position in range(8 * len(whole)):
        data = bytearray(whole)
        data[position // 8] ^= 1 << position % 8
        try:
            content, claim = read_document(bytes(data), VERDICT)
            if claim is not None:
                Keyring([KEY]).check(claim, VERDICT)
        except UntrustedError:
            continue
        assert claim is None, f"bit {position}: only what no longer looks signed is left, and that does not count"
        assert content == bytes(data)


@settings(max_examples=300)
@given(st.binary(max_size=300))
def test_no_bytes_end_in_a_traceback(rest: bytes) -> None:
    for data in (rest, MAGIC + rest, signed_line(rest, bytes(64)) + rest):
        try:
            content, claim = read_document(data, VERDICT)
        except UntrustedError:
            continue
        assert claim is None or claim.statement.size == len(content)


def test_two_keys_count_while_one_takes_over(opened: Opened) -> None:
    both = TrustSettings((KEY, OTHER), require=True)
    opened(both).write(VERDICT, PASSED)
    opened(both, OTHER_PEM).write(HEAD, b"head")

    assert opened(both, None).read(VERDICT)[0] == PASSED
    assert opened(both, None).read(HEAD)[0] == b"head"


def test_a_revoked_key_signs_nothing_more_and_what_it_had_signed_counts(opened: Opened, folder: Store) -> None:
    opened().write(VERDICT, PASSED)
    later = TrustSettings((replace(KEY, revoked="2999-01-01"),), require=True)
    earlier = TrustSettings((replace(KEY, revoked="2020-01-01"),), require=True)

    assert opened(later, None).read(VERDICT)[0] == PASSED
    with pytest.raises(UntrustedError, match="after that key was revoked"):
        opened(earlier, None).read(VERDICT)
    with pytest.raises(ForbiddenError, match="was revoked"):
        opened(earlier).write(VERDICT, PASSED)
    # A stolen key dates back; the store's clock does not.
    folder.write(VERDICT, sealed(VERDICT, PASSED, at=1_000_000_000))
    with pytest.raises(UntrustedError, match="stored after its key 'main-2026' was revoked"):
        opened(earlier, None).read(VERDICT)


def test_without_require_everything_is_read_and_what_is_wrong_is_told(
    opened: Opened, folder: Store, told: list[str]
) -> None:
    optional = TrustSettings((KEY,))
    folder.write(VERDICT, PASSED)
    assert opened(optional, None).read(VERDICT)[0] == PASSED
    assert not told
    folder.write(VERDICT, sealed(VERDICT, PASSED, pem=OTHER_PEM))
    assert opened(optional, None).read(VERDICT)[0] == PASSED
    assert "not its signature" in told[0]
    assert opened(TrustSettings(), None).read(VERDICT)[0] == PASSED


def test_without_trust_nothing_is_changed(opened: Opened, folder: Store) -> None:
    opened(TrustSettings(), None).write(VERDICT, PASSED)

    assert folder.read(VERDICT)[0] == PASSED


def test_without_a_key_nothing_is_written_that_would_not_count(opened: Opened, folder: Store) -> None:
    with pytest.raises(ForbiddenError, match="no key to sign it with"):
        opened(pem=None).write(VERDICT, PASSED)
    opened(pem=None).write("records/tier/image/1.json", b"{}")
    opened(pem=None).write("untrusted/topic/verdicts/a/b.json", PASSED)

    assert folder.stat(VERDICT) is None
    assert folder.read("untrusted/topic/verdicts/a/b.json")[0] == PASSED


def test_what_counts_for_nobody_is_replaced_but_never_a_head(opened: Opened, folder: Store) -> None:
    folder.write(VERDICT, b'{"passed": "forged"}')
    folder.write(HEAD, b"unsigned")

    opened().write(VERDICT, PASSED, if_generation=0)
    assert opened().read(VERDICT)[0] == PASSED
    with pytest.raises(PreconditionError):
        opened().write(VERDICT, b"a second one", if_generation=0)
    with pytest.raises(PreconditionError):
        opened().write(HEAD, b"new", if_generation=0)


def make_tar(folder: Path) -> Path:
    (folder / "a.whl").write_bytes(b"wheel" * 5000)
    with tarfile.open(folder / "wheels.tar", "w") as tar:
        tar.add(folder / "a.whl", "a.whl")
    return folder / "wheels.tar"


def test_wheels_are_signed_in_one_object_and_old_readers_can_read_them(
    opened: Opened, folder: Store, tmp_path: Path
) -> None:
    archive = make_tar(tmp_path)
    before = archive.read_bytes()
    opened().write_file("wheels/k.tar", archive, if_generation=0)

    opened(pem=None).read_file("wheels/k.tar", tmp_path / "back.tar")
    assert (tmp_path / "back.tar").read_bytes() == before == archive.read_bytes()
    assert opened(pem=None).read("wheels/k.tar")[0] == before
    folder.read_file("wheels/k.tar", tmp_path / "raw.tar")  # as a reader that knows nothing of signatures
    with tarfile.open(tmp_path / "raw.tar", "r:") as tar:
        assert tar.getnames() == ["a.whl"]
    assert not list(tmp_path.glob("*.signed"))


@pytest.mark.parametrize("change", ["unsigned", "byte", "short", "long", "other key's name"])
def test_wheels_of_somebody_else_are_refused_and_then_replaced(
    opened: Opened, folder: Store, tmp_path: Path, change: str
) -> None:
    archive = make_tar(tmp_path)
    opened().write_file("wheels/other.tar" if change.startswith("other") else "wheels/k.tar", archive)
    data = folder.read("wheels/other.tar" if change.startswith("other") else "wheels/k.tar")[0]
    forged = {
        "unsigned": archive.read_bytes(),
        "byte": data[:1000] + b"X" + data[1001:],
        "short": data[512:],
        "long": data[:-600] + bytes(512) + data[-600:],
    }.get(change, data)
    folder.write("wheels/k.tar", forged)

    with pytest.raises(UntrustedError):
        opened().read_file("wheels/k.tar", tmp_path / "back.tar")
    assert not (tmp_path / "back.tar").exists()
    opened().write_file("wheels/k.tar", archive, if_generation=0)
    opened().read_file("wheels/k.tar", tmp_path / "back.tar")
    assert (tmp_path / "back.tar").read_bytes() == archive.read_bytes()


@pytest.mark.parametrize(
    ("name", "purpose"),
    [
        (HEAD, "ccache-head"),
        ("wheels/k.tar", "wheels"),
        ("ccache/untrusted.topic.ccache-4.14/head", ""),
        ("untrusted/topic/wheels/k.tar", ""),
        ("ccache/trusted.main.ccache-4.14/packs/x", ""),  # named by its hash, in the head
        ("records/tier/image/1.json", ""),
        ("inputs/k.json", ""),
    ],
)
def test_what_is_signed(name: str, purpose: str) -> None:
    assert purpose_of(name) == purpose
    assert must_be_signed(name) == bool(purpose)


def test_a_key_comes_from_a_file_or_a_text_and_is_never_shown(tmp_path: Path) -> None:
    path = tmp_path / "key.pem"
    path.write_bytes(PEM)
    path.chmod(stat.S_IRUSR)

    assert open_signer(str(path)).public() == open_signer(PEM.decode()).public() == PUBLIC
    for wrong in (str(tmp_path / "none"), str(tmp_path), PEM.decode()[:80], "gcpkms://projects/p", "\0"):
        with pytest.raises(StoreError) as error:
            open_signer(wrong)
        assert PEM.decode().splitlines()[1][:20] not in str(error.value)


def test_a_key_that_the_pipeline_does_not_name_signs_nothing(opened: Opened) -> None:
    with pytest.raises(StoreError, match="is not one of trust"):
        opened(pem=OTHER_PEM).write(VERDICT, PASSED)


def test_the_format_is_what_the_documentation_says() -> None:
    """Held against a signature made by hand, so that a change of the format is seen."""
    statement = Statement("keys/k.json", "keys", "0" * 64, 0, "main-2026", 7).encode()

    assert json.loads(statement) == {
        "at": 7, "key": "main-2026", "name": "keys/k.json", "purpose": "keys", "sha256": "0" * 64, "size": 0,
    }  # fmt: skip
    assert to_sign(b"{}", "keys") == b"imagetiers-signed-v1 4 keys 2 {}"
    assert signed_line(b"{}", b"s" * 3) == b"imagetiers-signed 1 e30= " + base64.b64encode(b"sss") + b"\n"


def test_who_has_signed_is_told_without_reading_everything(opened: Opened, folder: Store, tmp_path: Path) -> None:
    opened().write(VERDICT, PASSED)
    opened().write_file("wheels/k.tar", make_tar(tmp_path))
    folder.write("keys/a.json", b"{}")
    folder.write("keys/b.json", sealed("keys/c.json", b"{}"))

    assert opened(pem=None).signed_by(VERDICT) == opened(pem=None).signed_by("wheels/k.tar") == "main-2026"
    assert opened(pem=None).signed_by("keys/a.json") == ""
    with pytest.raises(UntrustedError, match=r"was signed as 'keys/c\.json'"):
        opened(pem=None).signed_by("keys/b.json")


@pytest.mark.parametrize("name", [VERDICT, "records/tier/image/1.json", "untrusted/topic/keys/k.json"])
def test_no_document_fills_the_memory(
    opened: Opened, folder: Store, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setattr(store_signed, "DOCUMENT_MAX", 1000)
    folder.write(name, bytes(1001))

    with pytest.raises(CorruptError, match="which no document is"):
        opened().read(name)


def test_who_signs_nothing_does_not_wait_for_the_library() -> None:
    code = "import sys, imagetiers.tasks.tasks, imagetiers.connect; print('cryptography' in sys.modules)  # noqa: F401"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert done.stdout == "False\n"
