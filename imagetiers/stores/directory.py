"""A directory as a Store: the cache's embedded default, and what tests and a shared disk use.

    ROOT/objects/   one file an object: its content, then a 48-byte trailer (see store_trailer.py)
    ROOT/lock/      256 lock files; a name's writers meet at the one its hash picks. Each holds the last generation used
    ROOT/tmp/       files that are being written; what a killed process left there is swept after an hour

Readers take no lock and write nothing. A write is: temporary file, lock, look at the generation, trailer, fsync,
rename, fsync of the folder, unlock. Killed at any line it leaves the old object or the new one, and the kernel drops
the lock.
A file whose trailer is damaged counts as an object of generation 1: it can be listed, replaced and deleted, not read.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import secrets
import stat
import time
from collections.abc import Iterator
from io import BufferedReader
from pathlib import Path

import xxhash

from imagetiers.errors import (
    CorruptError,
    NotFoundError,
    PreconditionError,
    Problem,
    UnavailableError,
)
from imagetiers.retry import asked_to_stop, jitter
from imagetiers.stores.files import atomic_write, local_errors, read_chunks
from imagetiers.stores.names import check_name, name_to_path, path_to_component
from imagetiers.stores.port import Blob
from imagetiers.stores.trailer import Trailer

__all__ = ["DirectoryStore"]

_DAMAGED = 1  # real generations are microseconds since 1970
_CHUNK = 1 << 20
_LOCK_SECONDS = 60.0
_LAST_SECONDS = 1.0  # that a lock is still waited for when somebody has asked to stop
_STALE_SECONDS = 3600.0


class DirectoryStore:
    """Objects in a directory, with the Store port's generation semantics between threads and processes of one machine.

    Making one touches nothing; the directory is made by the first write. Errors as the port says; besides, StoreError
    when the disk is full (nothing is left behind then) or fails.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self._objects = root / "objects"
        self._swept = False

    def __repr__(self) -> str:
        return f"DirectoryStore({str(self.root)!r})"

    @property
    def url(self) -> str:
        """The directory."""
        return str(self.root)

    def now(self) -> float:
        """Return this machine's time: it is what the objects' times are made of."""
        return time.time()

    def read(self, name: str, *, start: int = 0, length: int | None = None) -> tuple[bytes, int]:
        """Return the object's bytes from `start`, at most `length`, and its generation. A range is not checksummed."""
        if start < 0 or (length is not None and length < 0):
            raise ValueError(f"not a range: start={start}, length={length}")
        with self._opened(name) as (file, trailer):
            wanted = max(0, trailer.size - start)
            wanted = wanted if length is None else min(wanted, length)
            file.seek(start)
            data = file.read(wanted)
            whole = wanted == trailer.size
            if len(data) != wanted or (whole and xxhash.xxh3_128_digest(data) != trailer.digest):
                raise self._corrupt(name)
            return data, trailer.generation

    def read_into(self, name: str, memory: memoryview, *, start: int = 0) -> int:
        """Read the object's bytes from `start` on into memory, unchecked; return how many these are."""
        if start < 0:
            raise ValueError(f"not a range: start={start}")
        with self._opened(name) as (file, trailer):
            wanted = min(max(0, trailer.size - start), len(memory))
            file.seek(start)
            if file.readinto(memory[:wanted]) != wanted:
                raise self._corrupt(name)
            return wanted

    def read_file(self, name: str, path: Path) -> int:
        """Stream the object into `path` (temporary name beside it, checksum, rename); return its generation."""
        with self._opened(name) as (file, trailer), atomic_write(path) as write:
            digest, left = xxhash.xxh3_128(), trailer.size
            while left and (chunk := file.read(min(left, _CHUNK))):
                digest.update(chunk)
                write(chunk)
                left -= len(chunk)
            if left or digest.digest() != trailer.digest:
                raise self._corrupt(name)
            return trailer.generation

    def write(self, name: str, data: bytes | memoryview, *, if_generation: int | None = None) -> int:
        """Store bytes; return the new generation."""
        return self._write(name, iter((data,)), if_generation)

    def write_file(self, name: str, path: Path, *, if_generation: int | None = None) -> int:
        """Stream a file into the object; return the new generation."""
        return self._write(name, read_chunks(path), if_generation)

    def stat(self, name: str) -> Blob | None:
        """Say what is stored under `name`, or None."""
        check_name(name)
        with local_errors(self._where(name)):
            return self._blob(name, self._path(name))

    def list(self, prefix: str = "") -> Iterator[Blob]:
        """Yield every object whose name starts with `prefix`, in order of name (as UTF-8)."""
        with local_errors(self._where(prefix)):
            yield from self._walk(self._objects, "", prefix)

    def delete(self, name: str, *, if_generation: int | None = None) -> None:
        """Remove the object; removing what is not there is no error (unless a precondition says so)."""
        check_name(name)
        path = self._path(name)
        with local_errors(self._where(name)):
            if not path.exists():
                # Says the same as under the lock, and works in a store that does not exist or is read-only.
                self._check(name, 0, if_generation)
                return
            with self._locked(name):
                self._check(name, self._generation(path), if_generation)
                with contextlib.suppress(FileNotFoundError):
                    path.unlink()
                _fsync_folder(path.parent)

    # reading

    def _path(self, name: str) -> Path:
        return self._objects / name_to_path(name)

    @contextlib.contextmanager
    def _opened(self, name: str) -> Iterator[tuple[BufferedReader, Trailer]]:
        check_name(name)
        with local_errors(self._where(name)):
            try:
                fd = _open(self._path(name))
            except (FileNotFoundError, NotADirectoryError):
                raise NotFoundError(Problem(self._where(name), "no such object")) from None
            mode = os.fstat(fd).st_mode
            if not stat.S_ISREG(mode):
                os.close(fd)
                if stat.S_ISDIR(mode):
                    raise NotFoundError(Problem(self._where(name), "no such object"))
                raise self._corrupt(name)
            with os.fdopen(fd, "rb") as file:
                trailer = Trailer.of(fd)
                if trailer is None:
                    raise self._corrupt(name)
                yield file, trailer

    def _blob(self, name: str, path: Path) -> Blob | None:
        try:
            fd = _open(path)
        except (FileNotFoundError, NotADirectoryError):
            return None
        try:
            status = os.fstat(fd)
            trailer = Trailer.of(fd) if stat.S_ISREG(status.st_mode) else None
        finally:
            os.close(fd)
        if trailer is None:
            return Blob(name, status.st_size, _DAMAGED, status.st_mtime)
        return Blob(name, trailer.size, trailer.generation, status.st_mtime)

    def _generation(self, path: Path) -> int:
        blob = self._blob("", path)
        return blob.generation if blob else 0

    def _walk(self, folder: Path, above: str, prefix: str) -> Iterator[Blob]:
        try:
            with os.scandir(folder) as entries:
                found = [path_to_component(entry.name) for entry in entries]
        except (FileNotFoundError, NotADirectoryError):
            return
        # A folder sorts as `name/`: then this order, folder by folder, is the order of the whole names.
        names = sorted((above + part[0] + ("/" if part[1] else "") for part in found if part), key=str.encode)
        for name in names:
            if name.endswith("/"):
                if name.startswith(prefix) or prefix.startswith(name):
                    inner = self._objects / name_to_path(name + "x").parent
                    yield from self._walk(inner, name, prefix)
            elif name.startswith(prefix) and (blob := self._blob(name, self._path(name))):
                yield blob

    # writing

    def _write(self, name: str, chunks: Iterator[bytes | memoryview], if_generation: int | None) -> int:
        check_name(name)
        path = self._path(name)
        with local_errors(self._where(name)):
            if if_generation is not None:  # saves writing what cannot win; decided under the lock below
                self._check(name, self._generation(path), if_generation)
            self._sweep()
            with self._temporary() as (fd, temporary):
                digest, size = xxhash.xxh3_128(), 0
                for chunk in chunks:
                    digest.update(chunk)
                    _write_all(fd, chunk)
                    size += len(chunk)
                _make_folders(path.parent)
                with self._locked(name) as lock:
                    current = self._generation(path)
                    self._check(name, current, if_generation)
                    generation = _next_generation(lock, current)
                    _write_all(fd, Trailer(generation, size, digest.digest()).pack())
                    os.fsync(fd)
                    os.replace(temporary, path)  # noqa: PTH105  the crash tests count these calls
                    _fsync_folder(path.parent)
            return generation

    def _check(self, name: str, current: int, expected: int | None) -> None:
        if expected is None or expected == current:
            return
        what = "exists already" if expected == 0 else f"is at generation {current}, not at the expected {expected}"
        raise PreconditionError(Problem(self._where(name), what, "another writer was first: read again, then retry"))

    @contextlib.contextmanager
    def _temporary(self) -> Iterator[tuple[int, Path]]:
        """Yield a new file, locked for as long as its writer lives, and removed unless it was renamed."""
        path = self.root / "tmp" / f"{os.getpid()}-{secrets.token_hex(8)}"
        _make_folders(path.parent)
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            yield fd, path
        finally:
            os.close(fd)
            with contextlib.suppress(FileNotFoundError):
                path.unlink()

    @contextlib.contextmanager
    def _locked(self, name: str) -> Iterator[int]:
        """Hold the lock of `name`'s writers; yield the lock file's descriptor. UnavailableError after a minute."""
        path = self.root / "lock" / xxhash.xxh3_64_hexdigest(name.encode())[-2:]
        _make_folders(path.parent)
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)  # one a call: flock then parts threads, too
        try:
            began = time.monotonic()
            deadline, pause = began + _LOCK_SECONDS, 0.0005
            while True:
                try:
                    fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except BlockingIOError:
                    now = time.monotonic()
                    deadline = min(deadline, now + _LAST_SECONDS) if asked_to_stop() else deadline
                    if now >= deadline:
                        raise UnavailableError(
                            Problem(
                                str(path), f"locked by another process for {now - began:.0f} s", f"see `fuser {path}`"
                            )
                        ) from None
                time.sleep(jitter(pause))
                pause = min(pause * 2, 0.02)
            yield fd
        finally:
            os.close(fd)  # drops the lock

    def _sweep(self) -> None:
        """Once: remove what killed writers left in tmp/ (an hour old, and no living process has it locked)."""
        if self._swept:
            return
        self._swept = True
        with contextlib.suppress(OSError), os.scandir(self.root / "tmp") as entries:
            for entry in entries:
                with contextlib.suppress(OSError):
                    if time.time() - entry.stat(follow_symlinks=False).st_mtime > _STALE_SECONDS:
                        with open(entry.path, "rb") as file:  # noqa: PTH123
                            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                            os.unlink(entry.path)  # noqa: PTH108

    # errors

    def _where(self, name: str) -> str:
        return f"{self.root}/{name}"

    def _corrupt(self, name: str) -> CorruptError:
        hint = f"the file was changed or the disk failed; remove it: {self._path(name)}"
        return CorruptError(Problem(self._where(name), "content does not match its checksum", hint))


def _open(path: Path) -> int:
    """Open what lies there without waiting: a pipe in an object's place has no writer, and is no object."""
    return os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)


def _next_generation(lock: int, current: int) -> int:
    """Return a generation that this name never had, also after a delete and with a clock that went back."""
    last = os.pread(lock, 8, 0)
    generation = max(time.time_ns() // 1000, current + 1, int.from_bytes(last, "big") + 1)
    os.pwrite(lock, generation.to_bytes(8, "big"), 0)
    return generation


def _write_all(fd: int, data: bytes | memoryview) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]


def _make_folders(folder: Path) -> None:
    """Make the folder and what is above it, each one durable before something is put into it."""
    if not folder.is_dir():
        _make_folders(folder.parent)
        folder.mkdir(exist_ok=True)
        _fsync_folder(folder.parent)


def _fsync_folder(folder: Path) -> None:
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
