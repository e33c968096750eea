"""The private key of trusted builds: in a file, in an environment variable, or in Google Cloud KMS, which never shows it.

IMAGETIERS_SIGNING_KEY is one of

    /path/to/key.pem                       PKCS #8 in PEM, without a password
    -----BEGIN PRIVATE KEY-----...         the same as a text: a secret of the build
    gcpkms://projects/P/locations/L/keyRings/R/cryptoKeys/K/cryptoKeyVersions/N
                                           of algorithm EC_SIGN_ED25519, asked over REST with the default credentials

cryptography and google.auth are imported only where something is signed.
"""

from __future__ import annotations

import base64
import json
import re
import threading
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from imagetiers.config.environment import SIGNING_KEY
from imagetiers.config.model import TrustedKey, TrustSettings
from imagetiers.errors import Problem, StoreError, os_problem
from imagetiers.extras import missing_extra

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

__all__ = ["KmsSigner", "LazySigner", "PemSigner", "Signer", "open_signer"]

KMS = "https://cloudkms.googleapis.com/v1"
_SCHEME = "gcpkms://"
_VERSION = re.compile(
    r"projects/[^/?#]+/locations/[^/?#]+/keyRings/[^/?#]+/cryptoKeys/[^/?#]+/cryptoKeyVersions/[0-9]+"
)
_PEM_MAX, _ANSWER_MAX, _SIGNATURE = 16 << 10, 64 << 10, 64
_TIMEOUT = 20.0  # seconds, for each of two tries


class Signer(Protocol):
    """Something that holds an ed25519 private key."""

    def public(self) -> str:
        """Return the public key: its 32 bytes in Base64. May raise StoreError."""
        ...

    def sign(self, message: bytes) -> bytes:
        """Return the 64 bytes of a signature. May raise StoreError."""
        ...


def open_signer(text: str) -> Signer:
    """Make what IMAGETIERS_SIGNING_KEY says. Raises StoreError; its text never holds the key."""
    if text.startswith(_SCHEME):
        return KmsSigner(text.removeprefix(_SCHEME))
    if text.lstrip().startswith("-----BEGIN"):
        return PemSigner(text.encode())
    try:
        with Path(text).open("rb") as file:
            return PemSigner(file.read(_PEM_MAX))
    except OSError as error:
        raise StoreError(Problem(SIGNING_KEY, f"names no key that can be read: {os_problem(error).what}")) from None
    except ValueError:
        raise StoreError(Problem(SIGNING_KEY, "is no path")) from None


class PemSigner:
    """A private key in PEM."""

    def __init__(self, pem: bytes) -> None:
        self._key = _private(pem)

    def public(self) -> str:
        """Return the public key in Base64."""
        return base64.b64encode(self._key.public_key().public_bytes_raw()).decode()

    def sign(self, message: bytes) -> bytes:
        """Sign."""
        return self._key.sign(message)


def _private(pem: bytes) -> Ed25519PrivateKey:
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    try:
        key = load_pem_private_key(pem, password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        key = None
    if not isinstance(key, Ed25519PrivateKey):
        hint = "doit trust:init --out FILE makes one"
        raise StoreError(Problem(SIGNING_KEY, "is no ed25519 private key in PEM without a password", hint))
    return key


class KmsSigner:
    """A key version of Cloud KMS. Never run on Google: tested against a server of ours that checks what it is sent.

    Requests and checksums as in the reference of cryptoKeyVersions.getPublicKey and asymmetricSign (REST, v1).
    """

    def __init__(self, version: str, session: Callable[[], Any] | None = None, url: str = KMS) -> None:
        if not _VERSION.fullmatch(version):
            hint = "gcpkms://projects/P/locations/L/keyRings/R/cryptoKeys/K/cryptoKeyVersions/N"
            raise StoreError(Problem(SIGNING_KEY, "names no version of a key", hint))
        missing = missing_extra("google.cloud.storage", "gcs", SIGNING_KEY, "a key of Cloud KMS")
        if missing is not None:
            raise StoreError(missing)
        self._version = version
        self._session = session or _default_session
        self._url = url

    def public(self) -> str:
        """Ask for the public key."""
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
        from cryptography.hazmat.primitives.serialization import load_pem_public_key

        answer = self._ask("GET", f"{self._version}/publicKey")
        try:
            key = load_pem_public_key(str(answer.get("pem")).encode())
        except ValueError:
            key = None
        if answer.get("algorithm") != "EC_SIGN_ED25519" or not isinstance(key, Ed25519PublicKey):
            raise self._problem("is no key of algorithm EC_SIGN_ED25519")
        return base64.b64encode(key.public_bytes_raw()).decode()

    def sign(self, message: bytes) -> bytes:
        """Let the service sign; what was damaged on either way is refused."""
        body = {"data": base64.b64encode(message).decode(), "dataCrc32c": str(_crc32c(message))}
        answer = self._ask("POST", f"{self._version}:asymmetricSign", body)
        try:
            signature = base64.b64decode(str(answer.get("signature")), validate=True)
        except ValueError:
            signature = b""
        whole = len(signature) == _SIGNATURE and answer.get("signatureCrc32c") == str(_crc32c(signature))
        if not whole or answer.get("verifiedDataCrc32c") is not True or answer.get("name") != self._version:
            raise self._problem("gave a signature that is damaged, or of something else")
        return signature

    def _ask(self, method: str, path: str, body: dict[str, str] | None = None) -> dict[str, Any]:
        import requests
        from google.auth.exceptions import GoogleAuthError

        told = ""
        for _ in range(2):
            try:
                session = self._session()
                answer = session.request(
                    method, f"{self._url}/{path}", json=body, timeout=_TIMEOUT, allow_redirects=False, stream=True
                )
                with answer:
                    data = answer.raw.read(_ANSWER_MAX, decode_content=True)
                told = f"answered with status {answer.status_code}"
                if answer.status_code == requests.codes.ok:
                    given = json.loads(data)
                    if isinstance(given, dict):
                        return given
                if (
                    answer.status_code < requests.codes.internal_server_error
                    and answer.status_code != requests.codes.ok
                ):
                    break
            except (requests.RequestException, GoogleAuthError, OSError, ValueError, RecursionError) as error:
                told = f"does not answer: {type(error).__name__}"
        raise self._problem(told)

    def _problem(self, what: str) -> StoreError:
        return StoreError(Problem(_SCHEME + self._version, what, "it needs roles/cloudkms.signerVerifier"))


def _crc32c(data: bytes) -> int:
    import google_crc32c

    return int(google_crc32c.value(data))


def _default_session() -> Any:
    import google.auth
    from google.auth.transport.requests import AuthorizedSession

    credentials, _ = google.auth.default(scopes=["https://www.googleapis.com/auth/cloudkms"])
    return AuthorizedSession(credentials)


class LazySigner:
    """The signing key of this build and what the pipeline calls it; opened when something is to be signed."""

    def __init__(self, text: str, settings: TrustSettings) -> None:
        self._text = text
        self._settings = settings
        self._lock = threading.Lock()
        self._opened: tuple[TrustedKey, Signer] | None = None

    def open(self) -> tuple[TrustedKey, Signer]:
        """Return the key, as pipeline.yaml has it, and its signer. Raises StoreError."""
        with self._lock:
            if self._opened is None:
                signer = open_signer(self._text)
                public = signer.public()
                key = next((key for key in self._settings.keys if key.ed25519 == public), None)
                if key is None:
                    hint = f"add it there: {{name: ..., ed25519: {public}}}"
                    raise StoreError(Problem(SIGNING_KEY, "is not one of trust.keys in pipeline.yaml", hint))
                self._opened = key, signer
            return self._opened
