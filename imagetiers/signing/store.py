"""A store whose trusted objects are signed when they are written and checked when they are read (see `statements`).

It lies around the real store, so no reader of heads, wheels, verdicts, records of publication and key documents can go
past it, and none of them knows. Without keys it only takes signatures off; what pull requests write is passed through.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import secrets
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

from imagetiers.config.environment import SIGNING_KEY
from imagetiers.config.model import TrustedKey, TrustSettings
from imagetiers.errors import (
    CorruptError,
    ForbiddenError,
    NotFoundError,
    PreconditionError,
    Problem,
    StoreError,
    UntrustedError,
    os_problem,
)
from imagetiers.signing.memory import Memory, is_remembered, version_of
from imagetiers.signing.signers import LazySigner
from imagetiers.signing.statements import (
    ARCHIVES,
    LINE_MAX,
    Claim,
    Keyring,
    Statement,
    check_content,
    counts_only_signed,
    find_trailer,
    is_revoked,
    must_be_signed,
    purpose_of,
    read_claim,
    read_document,
    signed_line,
    to_sign,
)
from imagetiers.stores.port import Blob, Store

__all__ = ["SignedStore"]

DOCUMENT_MAX = 64 << 20  # bytes of what is read whole: the largest are texts of inputs, a megabyte, and aggregates


class SignedStore:
    """The store of a pipeline with these keys; `signer` is there in trusted builds that have a private key.

    `tell` is given what is wrong with a signature where the pipeline does not require any. `memory` is a folder in which this
    machine remembers what it has seen; without, an older object that is put back is believed until it is too old.
    """

    def __init__(
        self,
        store: Store,
        settings: TrustSettings,
        signer: LazySigner | None,
        tell: Callable[[str], None],
        memory: Path | None = None,
    ) -> None:
        self._store = store
        self._settings = settings
        self._keys = Keyring(settings.keys)
        self._signer = signer
        self._tell = tell
        self._memory = Memory(memory, store.url) if memory is not None and settings.keys else None
        self._folder = memory
        self._expired: dict[str, int] = {}

    def __reduce__(self) -> tuple[Callable[..., SignedStore], tuple[object, ...]]:
        """Let a process that reads what others wrote have the store, and never the key that signs."""
        return SignedStore, (self._store, self._settings, None, _tell_nobody, self._folder)

    @property
    def url(self) -> str:
        """Where the store is."""
        return self._store.url

    def now(self) -> float:
        """Pass on."""
        return self._store.now()

    def read(self, name: str, *, start: int = 0, length: int | None = None) -> tuple[bytes, int]:
        """Read; of an object that may be signed the whole, up to `length`. Raises UntrustedError.

        A head that is older than `trust.max_age` allows counts as none, and is replaced by the next that is written.
        Without a `length`, no object is read that is larger than any document of ours: others may have written it.
        """
        if not must_be_signed(name):
            if length is not None:
                return self._store.read(name, start=start, length=length)
            data, generation = self._store.read(name, start=start, length=DOCUMENT_MAX + 1)
            return _small(data, name), generation
        most = DOCUMENT_MAX + 1 if length is None else start + length + LINE_MAX
        data, generation = self._store.read(name, length=most)
        if length is None:
            _small(data, name)
        with _of(generation):
            content, claim = _archive(data, name) if purpose_of(name) in ARCHIVES else read_document(data, name)
            self._judge(name, claim, content)
            self._refuse_expired(name, claim, generation)
        return content[start : None if length is None else start + length], generation

    def read_into(self, name: str, memory: memoryview, *, start: int = 0) -> int:
        """Read into memory; of an object that may be signed as `read` does. Raises UntrustedError."""
        if not must_be_signed(name):
            return self._store.read_into(name, memory, start=start)
        data, _ = self.read(name, start=start, length=len(memory))
        memory[: len(data)] = data
        return len(data)

    def write(self, name: str, data: bytes | memoryview, *, if_generation: int | None = None) -> int:
        """Sign and write. Raises ForbiddenError where only signed objects count and there is no key."""
        if not self._signs(name):
            return self._store.write(name, data, if_generation=if_generation)
        content = bytes(data)
        at = int(self.now())
        line = self._line(name, hashlib.sha256(content).hexdigest(), len(content), at)
        signed = content + line if purpose_of(name) in ARCHIVES else line + content
        if if_generation == 0:
            if_generation = self._expired.get(name, 0)
        try:
            generation = self._store.write(name, signed, if_generation=if_generation)
        except PreconditionError:
            known = self._in_the_way(name, if_generation, lambda: self.read(name))
            generation = self._store.write(name, signed, if_generation=known)
        self._expired.pop(name, None)
        with contextlib.suppress(
            UntrustedError
        ):  # what we have written ourselves is no attack, whatever the clock says
            self._remember(name, at, content)
        return generation

    def read_file(self, name: str, path: Path) -> int:
        """Stream an object to a file, and check it there. Raises UntrustedError, and then there is no file."""
        generation = self._store.read_file(name, path)
        if must_be_signed(name):
            try:
                with _of(generation):
                    self._judge(name, _take_off(path, name))
            except BaseException:
                path.unlink(missing_ok=True)
                raise
        return generation

    def write_file(self, name: str, path: Path, *, if_generation: int | None = None) -> int:
        """Sign a copy of the file and stream it: the object is one, so it is never there without its signature."""
        if not self._signs(name):
            return self._store.write_file(name, path, if_generation=if_generation)
        if purpose_of(name) not in ARCHIVES:
            return self.write(name, path.read_bytes(), if_generation=if_generation)
        scratch = path.with_name(f"{path.name}.{secrets.token_hex(4)}.signed")
        try:
            shutil.copyfile(path, scratch)
            line = self._line(name, *_hash(scratch, scratch.stat().st_size), int(self.now()))
            with scratch.open("ab") as file:
                file.write(line)
            try:
                return self._store.write_file(name, scratch, if_generation=if_generation)
            except PreconditionError:
                found = scratch.with_suffix(".found")
                try:
                    generation = self._in_the_way(name, if_generation, lambda: self.read_file(name, found))
                finally:
                    found.unlink(missing_ok=True)
                return self._store.write_file(name, scratch, if_generation=generation)
        except OSError as error:
            raise StoreError(os_problem(error)) from error
        finally:
            scratch.unlink(missing_ok=True)

    def stat(self, name: str) -> Blob | None:
        """Pass on; the size is with the signature."""
        return self._store.stat(name)

    def list(self, prefix: str = "") -> Iterator[Blob]:
        """Pass on."""
        return self._store.list(prefix)

    def delete(self, name: str, *, if_generation: int | None = None) -> None:
        """Pass on."""
        self._store.delete(name, if_generation=if_generation)

    def signed_by(self, name: str) -> str:
        """Return the name of the key that has signed an object, nothing for none. Its content is not looked at.

        Raises UntrustedError, also where nothing requires a signature.
        """
        if purpose_of(name) in ARCHIVES:
            blob = self._store.stat(name)
            size = 0 if blob is None else blob.size
            tail, _ = self._store.read(name, start=max(0, size - LINE_MAX), length=LINE_MAX)
            found = find_trailer(tail, name)
            claim = None if found is None else found[1]
        else:
            claim = read_claim(self._store.read(name, length=LINE_MAX)[0], name)
        if claim is None:
            return ""
        key = self._keys.check(claim, name)
        self._was_in_time(key, name)
        return key.name

    def _signs(self, name: str) -> bool:
        if self._signer is None and self._settings.require and counts_only_signed(name):
            hint = f"trusted builds have one in {SIGNING_KEY}"
            raise ForbiddenError(Problem(name, "would count for nobody: there is no key to sign it with", hint))
        return self._signer is not None and must_be_signed(name)

    def _line(self, name: str, sha256: str, size: int, at: int) -> bytes:
        assert self._signer is not None  # noqa: S101  as _signs has said
        key, signer = self._signer.open()
        if is_revoked(key, at):
            raise ForbiddenError(Problem(SIGNING_KEY, f"the key '{key.name}' was revoked ({key.revoked})"))
        statement = Statement(name, purpose_of(name), sha256, size, key.name, at).encode()
        return signed_line(statement, signer.sign(to_sign(statement, purpose_of(name))))

    def _judge(self, name: str, claim: Claim | None, content: bytes = b"") -> None:
        try:
            if claim is not None and self._keys:
                key = self._keys.check(claim, name)
                self._was_in_time(key, name)
                self._remember(name, claim.statement.at, content)
            elif claim is None and self._settings.require:
                raise UntrustedError(Problem(name, "is not signed, and trust.require in pipeline.yaml wants that"))
        except UntrustedError as error:
            if self._settings.require:
                raise
            self._tell(f"{error.problems[0].where}: {error.problems[0].what}; it is taken, since nothing requires one")

    def _remember(self, name: str, at: int, content: bytes) -> None:
        """Raise UntrustedError where this machine has seen a newer one."""
        purpose = purpose_of(name)
        if self._memory is not None and is_remembered(purpose):
            self._memory.check(name, version_of(purpose, at, content))

    def _refuse_expired(self, name: str, claim: Claim | None, generation: int) -> None:
        most = self._settings.max_age
        if most is None or claim is None or not self._keys or purpose_of(name) != "ccache-head":
            return
        age = self.now() - claim.statement.at
        if age <= most:
            return
        what = f"was signed {age / 86_400:.0f} days ago, longer than trust.max_age"
        if not self._settings.require:
            self._tell(f"{name}: {what}; it is taken, since nothing requires a signature")
            return
        if name not in self._expired:
            self._tell(f"{name}: {what}: it counts as none, and the next push begins anew")
        self._expired[name] = generation
        raise NotFoundError(Problem(name, what))

    def _was_in_time(self, key: TrustedKey, name: str) -> None:
        """Hold a revoked key against the store's clock: the signer's is its own affair, and who has stolen a key dates back."""
        if key.revoked is not None:
            blob = self._store.stat(name)
            if blob is None or is_revoked(key, blob.updated):
                what = f"was stored after its key '{key.name}' was revoked ({key.revoked})"
                raise UntrustedError(Problem(name, what, "doit trust:status shows who has signed what"))

    def _in_the_way(self, name: str, if_generation: int | None, look: Callable[[], object]) -> int:
        """After a create-only write was refused: return the generation of what nobody would believe, to be replaced.

        Raises PreconditionError for everything else. A head is never replaced so: it may be all that lists a namespace.
        """
        if if_generation == 0 and self._settings.require and purpose_of(name) != "ccache-head":
            try:
                look()
            except UntrustedError as error:
                if error.generation:
                    return error.generation
        raise PreconditionError(Problem(name, "exists already"))


def _tell_nobody(_line: str) -> None:
    """Take a line in a process that has no console; what it reads is of untrusted builds, and unsigned."""


def _small(data: bytes, name: str) -> bytes:
    if len(data) > DOCUMENT_MAX:
        raise CorruptError(Problem(name, f"is larger than {DOCUMENT_MAX >> 20} MiB, which no document is"))
    return data


@contextlib.contextmanager
def _of(generation: int) -> Iterator[None]:
    try:
        yield
    except UntrustedError as error:
        error.generation = generation
        raise


def _archive(data: bytes, name: str) -> tuple[bytes, Claim | None]:
    found = find_trailer(data[-LINE_MAX:], name)
    if found is None:
        return data, None
    content = data[: -found[0]]
    check_content(found[1], hashlib.sha256(content).hexdigest(), len(content))
    return content, found[1]


def _take_off(path: Path, name: str) -> Claim | None:
    """Take the line off the end of a file, and hold what it claims against the rest."""
    size = path.stat().st_size
    with path.open("rb") as file:
        file.seek(max(0, size - LINE_MAX))
        found = find_trailer(file.read(), name)
    if found is None:
        return None
    length, claim = found
    check_content(claim, *_hash(path, size - length))
    os.truncate(path, size - length)
    return claim


def _hash(path: Path, size: int) -> tuple[str, int]:
    """Return the SHA-256 of a file's first `size` bytes, and how many there were."""
    digest, done = hashlib.sha256(), 0
    with path.open("rb") as file:
        while done < size and (part := file.read(min(1 << 20, size - done))):
            digest.update(part)
            done += len(part)
    return digest.hexdigest(), done
