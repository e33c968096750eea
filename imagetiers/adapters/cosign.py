"""cosign, which signs images in the registry: a program of its own, on the PATH or not there.

It is told to send nothing to a transparency log: who signs with a key has said whom one need believe, and a private
registry's names are nobody else's business. Its exit codes tell "not signed" (10, 12) from "nobody answers".
"""

from __future__ import annotations

import base64
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from imagetiers.adapters.process import run
from imagetiers.config.environment import COSIGN_KEY
from imagetiers.documents import parse_object
from imagetiers.errors import Problem, RegistryError, os_problem
from imagetiers.planning.observed import Unknown

__all__ = ["Cosign"]

_SECONDS = 900.0  # a statement may be megabytes, and the key a service's
_NOT_SIGNED = {10, 12}  # no signature at all; none of this key
_NO_STATEMENT = "no matching attestations:"  # all that it says where there is none at all
_NOT_THESE = ("none of the attestations matched the predicate type", "accepted signatures do not match threshold")
_TOLD = 300
_MOST = 256 << 20  # bytes of all statements together


class Cosign:
    """The real Notary. `key` is what IMAGETIERS_COSIGN_KEY holds: a file, a KMS's address, or the key itself in PEM."""

    def __init__(self, key: str = "") -> None:
        self._key = f"env://{COSIGN_KEY}" if key.lstrip().startswith("-----BEGIN") else key
        self._signed: set[tuple[str, str]] = set()  # a digest that is signed stays so; tiers have parents in common
        self._public: dict[str, bytes] = {}  # what has been opened: a run asks for each tier

    def cannot_sign(self, key: str) -> str:
        """Say why this build cannot sign what that public key is for; '' where it can. A private key is opened for that."""
        if not self._key:
            return f"{COSIGN_KEY} is not set"
        for name, each in ((COSIGN_KEY, self._key), (key, key)):
            if each not in self._public:
                whole = each is self._key or "://" in each
                code, said, printed = self._ask(("public-key", "--key", each)) if whole else _read(Path(each))
                if code != 0:
                    return f"{name} cannot be read: {said}"
                self._public[each] = printed.strip()
        return "" if self._public[self._key] == self._public[key] else f"{COSIGN_KEY} is not the private half of {key}"

    def sign(self, image: str) -> None:
        """Sign an image with the key of this build."""
        self._do(image, ("sign", "--key", self._key, "--tlog-upload=false", "--yes", image))

    def attest(self, image: str, predicate_type: str, predicate: bytes) -> None:
        """Sign a statement of an image in the place of an earlier one of that type; `predicate` is JSON."""
        with tempfile.TemporaryDirectory(prefix="imagetiers-cosign-") as name:
            path = Path(name) / "predicate.json"
            path.write_bytes(predicate)
            words = ("--tlog-upload=false", "--yes", "--replace", "--type", predicate_type, "--predicate", str(path))
            self._do(image, ("attest", "--key", self._key, *words, image))

    def signed(self, image: str, key: str) -> bool | Unknown:
        """Say whether a public key's owner has signed an image."""
        if (image, key) in self._signed:
            return True
        code, said, _ = self._ask(("verify", "--key", key, "--insecure-ignore-tlog=true", image))
        if code in _NOT_SIGNED:
            return False
        if code != 0:
            return Unknown(said)
        self._signed.add((image, key))
        return True

    def attested(self, image: str, predicate_type: str, key: str) -> tuple[bytes, ...] | Unknown:
        """Return the statements of that type which the key's owner has signed of an image, as JSON."""
        words = ("verify-attestation", "--key", key, "--insecure-ignore-tlog=true", "--type", predicate_type, image)
        code, said, printed = self._ask(words)
        if code == 0:
            return tuple(_statements(printed))
        absent = code in _NOT_SIGNED or said == _NO_STATEMENT or any(text in said for text in _NOT_THESE)
        return () if absent else Unknown(said)

    def _do(self, image: str, words: tuple[str, ...]) -> None:
        code, said, _ = self._ask(words)
        if code != 0:
            raise RegistryError(Problem(image, f"was not signed: {said}", f"look at {COSIGN_KEY} and COSIGN_PASSWORD"))

    def _ask(self, words: tuple[str, ...]) -> tuple[int | None, str, bytes]:
        """Return exit code (None: it could not be run), what it says, and what it prints."""
        program = shutil.which("cosign")
        if program is None:
            return None, "cosign is not installed", b""
        lines: list[str] = []
        with tempfile.TemporaryFile() as out:
            try:
                # Without a terminal it would ask for the password of a key on nobody's screen.
                env = {"COSIGN_PASSWORD": os.environ.get("COSIGN_PASSWORD", "")}
                code = run((program, *words), env=env, on_line=lines.append, out=out, seconds=_SECONDS)
            except (OSError, TimeoutError) as error:
                return None, f"cosign cannot be run: {error}", b""
            out.seek(0)
            printed = out.read(_MOST + 1)
        if len(printed) > _MOST:
            return None, "cosign's answer has no end", b""
        return code, _reason(lines), printed


def _read(path: Path) -> tuple[int | None, str, bytes]:
    """Return a public key in a file, as `_ask` would."""
    try:
        return 0, "", path.read_bytes()
    except OSError as error:
        return None, os_problem(error).what, b""


def _reason(lines: list[str]) -> str:
    """Return what went wrong, without what cosign says twice and of its own name."""
    told = [line.removeprefix("Error: ") for line in lines if line.startswith("Error: ")] or lines
    return " ".join(" ".join(told).split())[:_TOLD]


def _statements(printed: bytes) -> Iterator[bytes]:
    """Yield the statements in cosign's envelopes, one a line; it has checked their signatures."""
    for line in printed.splitlines():
        payload = (parse_object(line) or {}).get("payload")
        if isinstance(payload, str):
            yield base64.b64decode(payload)
