r"""Signed objects: who vouches that an object of the cache is what it is, under this name and for this purpose.

    document    b"imagetiers-signed 1 STATEMENT SIGNATURE\n" and then the content, unchanged
    archive     the content, unchanged, and then that line: a tar reader stops at the end of the archive

STATEMENT is Base64 of a JSON object {at, key, name, purpose, sha256, size}; SIGNATURE is Base64 of 64 bytes, ed25519 over

    "imagetiers-signed-v1" SP LEN(purpose) SP purpose SP LEN(statement) SP statement

which is DSSE's pre-authentication encoding with a word of our own in front. The statement's bytes are what is signed and
what is read, so there is no canonical form to agree on. `name` is the object's name relative to the cache and `purpose` what a
reader takes it for: an object that is moved or copied to another name, or read as something else, is refused.
docs/signing.md says what that leaves open.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime

from imagetiers.config.model import TrustedKey
from imagetiers.documents import parse_object
from imagetiers.errors import Problem, UntrustedError

__all__ = [
    "ARCHIVES",
    "KEY_NAME",
    "LINE_MAX",
    "Claim",
    "Keyring",
    "Statement",
    "check_content",
    "counts_only_signed",
    "find_trailer",
    "is_revoked",
    "must_be_signed",
    "new_key",
    "purpose_of",
    "read_claim",
    "read_document",
    "signed_line",
    "to_sign",
]

MAGIC = b"imagetiers-signed 1 "
KEY_NAME = r"[a-z0-9]+([._-][a-z0-9]+)*"  # as the schema has it
LINE_MAX = 4096  # bytes of such a line; an object's name has at most 768
_LINE = re.compile(rb"imagetiers-signed 1 ([A-Za-z0-9+/]{4,3500}={0,2}) ([A-Za-z0-9+/]{86}==)\n")
ARCHIVES = frozenset({"wheels", "made"})
"""What is a tar, and so has its line behind it."""

_PURPOSES = (*ARCHIVES, "verdicts", "published", "keys")
_FIELDS = {"at": int, "key": str, "name": str, "purpose": str, "sha256": str, "size": int}


@dataclass(frozen=True, slots=True)
class Statement:
    """What is signed: that the object `name` is these bytes. `at` is when, in Unix seconds, by the signer's clock."""

    name: str
    purpose: str
    sha256: str
    size: int
    key: str
    at: int

    def encode(self) -> bytes:
        """Return the bytes that are signed."""
        return json.dumps({field: getattr(self, field) for field in sorted(_FIELDS)}, sort_keys=True).encode()

    @classmethod
    def of(cls, name: str, content: bytes, key: TrustedKey, at: float) -> Statement:
        """Make the statement on an object's content."""
        return cls(name, purpose_of(name), hashlib.sha256(content).hexdigest(), len(content), key.name, int(at))


def purpose_of(name: str) -> str:
    """Return what an object is for when trusted builds believe it, from its name; nothing for all else.

    `untrusted/...` and the ccache namespaces of untrusted builds are what pull requests write: no trusted build takes
    anything from there, and they have no key.
    """
    first, _, rest = name.partition("/")
    if first in _PURPOSES:
        return first
    if first == "folders" and rest.endswith(".json"):
        return "folders"
    if first == "ccache" and rest.endswith("/head") and not rest.startswith("untrusted."):
        return "ccache-head"
    return ""


def must_be_signed(name: str) -> bool:
    """Say whether a trusted build signs an object of that name, and a reader with `require` wants it signed."""
    return purpose_of(name) != ""


def counts_only_signed(name: str) -> bool:
    """Say whether an object is signed, or is of use only through a signed one: all of build folders and trusted ccache.

    Who has no key shall not upload packs whose head would then be refused.
    """
    inside = name.startswith(("ccache/", "folders/")) and not name.startswith("ccache/untrusted.")
    return must_be_signed(name) or inside


def to_sign(statement: bytes, purpose: str) -> bytes:
    """Return the bytes that the signature is over."""
    word = purpose.encode()
    return b"imagetiers-signed-v1 %d %s %d %s" % (len(word), word, len(statement), statement)


def signed_line(statement: bytes, signature: bytes) -> bytes:
    """Return the line that goes before a document or after an archive."""
    return MAGIC + base64.b64encode(statement) + b" " + base64.b64encode(signature) + b"\n"


@dataclass(frozen=True, slots=True)
class Claim:
    """A statement as it was found, whoever made it: nothing of it is true before a Keyring has said so."""

    statement: Statement
    signed: bytes
    signature: bytes


def read_document(data: bytes, name: str) -> tuple[bytes, Claim | None]:
    """Take an object apart into its content and what is claimed of it; one that is not signed is its content.

    Raises UntrustedError for a line that is none, or that is about other bytes.
    """
    if not data.startswith(MAGIC):
        return data, None
    match = _LINE.match(data)
    if match is None:
        raise UntrustedError(Problem(name, "its signature cannot be read"))
    content = data[match.end() :]
    return content, _checked(_claim(match, name), hashlib.sha256(content).hexdigest(), len(content))


def read_claim(start: bytes, name: str) -> Claim | None:
    """Return what is claimed at the beginning of a document, of which nothing else is looked at. Raises UntrustedError."""
    if not start.startswith(MAGIC):
        return None
    match = _LINE.match(start)
    if match is None:
        raise UntrustedError(Problem(name, "its signature cannot be read"))
    return _claim(match, name)


def find_trailer(tail: bytes, name: str) -> tuple[int, Claim] | None:
    """Find the line at the end of an archive's last bytes; return its length and what it claims. None: not signed."""
    start = tail.rfind(MAGIC)
    match = _LINE.fullmatch(tail, start) if start >= 0 else None
    return (len(tail) - start, _claim(match, name)) if match is not None else None


def _checked(claim: Claim, sha256: str, size: int) -> Claim:
    if (claim.statement.sha256, claim.statement.size) != (sha256, size):
        raise UntrustedError(Problem(claim.statement.name[:200], "its content is not what was signed"))
    return claim


def check_content(claim: Claim, sha256: str, size: int) -> None:
    """Hold a claim against what was read. Raises UntrustedError."""
    _checked(claim, sha256, size)


def _claim(match: re.Match[bytes], name: str) -> Claim:
    try:
        signed = base64.b64decode(match[1], validate=True)
        signature = base64.b64decode(match[2], validate=True)
        if signed_line(signed, signature) != match[0]:  # Base64 has spare bits: one line says one thing in one way
            raise ValueError
        given = parse_object(signed)
        if given is None or {field: type(value) for field, value in given.items()} != _FIELDS:
            raise ValueError
    except ValueError:
        raise UntrustedError(Problem(name, "its signature cannot be read")) from None
    return Claim(Statement(**given), signed, signature)


class Keyring:
    """The keys that a pipeline trusts. What a revoked one signs is believed until its date, by two clocks."""

    def __init__(self, keys: Iterable[TrustedKey]) -> None:
        self._keys = {key.name: key for key in keys}

    def __bool__(self) -> bool:
        return bool(self._keys)

    def check(self, claim: Claim, name: str) -> TrustedKey:
        """Return the key that has signed this for this name. Raises UntrustedError, with who says to have signed what."""
        statement = claim.statement
        by = f"it says that '{statement.key[:60]}' has signed it"
        if statement.name != name:
            raise UntrustedError(Problem(name, f"what lies there was signed as {statement.name[:200]!r}"))
        if statement.purpose != purpose_of(name):
            raise UntrustedError(Problem(name, f"was signed as something else: {statement.purpose[:60]!r}"))
        key = self._keys.get(statement.key)
        if key is None:
            hint = "trust.keys in pipeline.yaml lists who may"
            raise UntrustedError(Problem(name, f"{by}, whom this pipeline does not trust", hint))
        if not _verifies(key, claim.signature, to_sign(claim.signed, statement.purpose)):
            raise UntrustedError(Problem(name, f"{by}, but that is not its signature"))
        if is_revoked(key, statement.at):
            raise UntrustedError(
                Problem(name, f"was signed by '{key.name}' after that key was revoked ({key.revoked})")
            )
        return key


def is_revoked(key: TrustedKey, when: float) -> bool:
    """Say whether a key was no longer good at that time (Unix seconds): its date begins at midnight, UTC."""
    if key.revoked is None:
        return False
    return when >= datetime.fromisoformat(key.revoked).replace(tzinfo=UTC).timestamp()


def _verifies(key: TrustedKey, signature: bytes, message: bytes) -> bool:
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

    try:
        Ed25519PublicKey.from_public_bytes(base64.b64decode(key.ed25519, validate=True)).verify(signature, message)
    except (InvalidSignature, ValueError):
        return False
    return True


def new_key() -> tuple[bytes, str]:
    """Make a key pair: the private key in PEM, the public one in Base64."""
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    key = Ed25519PrivateKey.generate()
    pem = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    return pem, base64.b64encode(key.public_key().public_bytes_raw()).decode()
