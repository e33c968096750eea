"""A Google Cloud Storage bucket as a Store.

Making one imports nothing of Google's and touches no network: a run that needs no cache pays nothing for having one.
Every whole content is checked against its CRC32C on both ends, but for what is received into memory: whoever asks for that
knows what it should be. A retry after a lost answer knows its own write again, by a random token in the object's metadata:
"somebody was first" (HTTP 412) is never said of ourselves.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import IO, TYPE_CHECKING, TypeVar

import google_crc32c

from imagetiers.errors import NotFoundError, PreconditionError, Problem, UnavailableError
from imagetiers.retry import RetryDecision, RetryPolicy, retry
from imagetiers.stores.files import atomic_write, local_errors, read_chunks
from imagetiers.stores.names import check_name, is_name
from imagetiers.stores.port import Blob, BucketSettings

if TYPE_CHECKING:
    from imagetiers.stores.gcs_errors import ChangedError
    from imagetiers.stores.gcs_http import Content, GcsHttp

__all__ = ["GcsStore"]

_Result = TypeVar("_Result")
_EMPTY_PAGES = 100
_PIECE = 256 * 1024
_SLICE = 32 << 20  # bytes of one request of read_file; held in memory


class GcsStore:
    """Objects under `gs://bucket/prefix`. Errors as the Store port says, StoreError when there is no such bucket.

    Credentials are Application Default Credentials. With an `endpoint` (default: STORAGE_EMULATOR_HOST) there are none.
    `threads` is how many may call at once without opening connections anew. Once `hurried` says that somebody asked to
    stop, nothing is tried again, and nothing that stands still is waited for.
    """

    def __init__(
        self,
        bucket: str,
        prefix: str = "",
        *,
        endpoint: str | None = None,
        threads: int = 32,
        policy: RetryPolicy | None = None,
        hurried: Callable[[], bool] = lambda: False,
    ) -> None:
        self._bucket = bucket
        self._prefix = prefix.strip("/") + "/" if prefix.strip("/") else ""
        self._endpoint = endpoint
        self._threads = threads
        self._policy = policy or RetryPolicy()
        self._hurried = hurried
        self._lock = threading.Lock()
        self._connection: tuple[int, GcsHttp] | None = None
        self._given_up = False

    def __reduce__(self) -> tuple[Callable[..., GcsStore], tuple[object, ...]]:
        """Let another process have a store of the same bucket, with connections of its own."""
        return _again, (self._bucket, self._prefix, self._endpoint, self._threads, self._policy)

    def __repr__(self) -> str:
        return f"GcsStore({self.url!r})"

    @property
    def url(self) -> str:
        """`gs://bucket/prefix`."""
        return f"gs://{self._bucket}/{self._prefix}".rstrip("/")

    @property
    def requests(self) -> int:
        """How many HTTP requests this store has sent, repetitions included."""
        return self._connection[1].requests if self._connection else 0

    def close(self) -> None:
        """Close all connections; the next call opens new ones, and so does another try of one that is at work."""
        with self._lock:
            if self._connection:
                self._connection[1].close()
                self._connection = None

    def now(self) -> float:
        """Return the time by the server's last answer; by this machine's clock before the first one."""
        return time.time() + (self._connection[1].transport.adapter.ahead if self._connection else 0.0)

    def read(self, name: str, *, start: int = 0, length: int | None = None) -> tuple[bytes, int]:
        """Return the object's bytes from `start`, at most `length`, and its generation.

        A range that is not all of the object cannot be checked against its CRC32C; check it by what you know of it.
        """
        check_name(name)
        if start < 0 or (length is not None and length < 0):
            raise ValueError(f"not a range: start={start}, length={length}")

        def attempt(wire: GcsHttp) -> tuple[bytes, int]:
            from imagetiers.stores import gcs_errors, gcs_http  # noqa: PLC0415

            with contextlib.suppress(gcs_errors.PastEndError):
                if length != 0:
                    content = wire.get(self._prefix + name, start, length)
                    if content.whole:
                        expected = content.crc32c or wire.crc32c(self._prefix + name, content.generation)
                        gcs_http.check_crc32c(google_crc32c.value(content.data), expected)
                    return content.data, content.generation
            return b"", self._generation(wire, name)

        return self._call(name, attempt)

    def read_into(self, name: str, memory: memoryview, *, start: int = 0) -> int:
        """Receive the object's bytes from `start` on right into memory, unchecked; return how many these are."""
        check_name(name)
        if start < 0:
            raise ValueError(f"not a range: start={start}")

        def attempt(wire: GcsHttp) -> int:
            from imagetiers.stores import gcs_errors  # noqa: PLC0415

            with contextlib.suppress(gcs_errors.PastEndError):
                if len(memory):
                    return wire.get_into(self._prefix + name, start, memory)
            self._generation(wire, name)
            return 0

        return self._call(name, attempt)

    def read_file(self, name: str, path: Path) -> int:
        """Stream the object into `path` (temporary name beside it, checksum, rename); return its generation.

        Large objects come in slices of 32 MiB, so that a broken connection costs one slice; all are of one generation.
        """
        check_name(name)

        def attempt(_wire: GcsHttp) -> int:
            with atomic_write(path) as write:
                return self._slices(name, write)

        return self._call(name, attempt)

    def write(self, name: str, data: bytes | memoryview, *, if_generation: int | None = None) -> int:
        """Store bytes; return the new generation. At most 8 MiB are a single request."""
        crc = 0
        for at in range(0, len(data), _PIECE):
            crc = google_crc32c.extend(crc, bytes(data[at : at + _PIECE]))  # which takes nothing but bytes
        return self._write(name, data, len(data), crc, if_generation)

    def write_file(self, name: str, path: Path, *, if_generation: int | None = None) -> int:
        """Stream a file into the object; return the new generation. The file must not change meanwhile."""
        check_name(name)
        size, crc = 0, 0
        for piece in read_chunks(path):
            size, crc = size + len(piece), google_crc32c.extend(crc, piece)
        with local_errors(path):
            file = path.open("rb")
        with file:
            return self._write(name, file, size, crc, if_generation)

    def stat(self, name: str) -> Blob | None:
        """Say what is stored under `name`, or None."""
        check_name(name)

        def attempt(wire: GcsHttp) -> Blob | None:
            found = wire.meta(self._prefix + name)
            return self._inside(found[0]) if found else None

        return self._call(name, attempt)

    def list(self, prefix: str = "") -> Iterator[Blob]:
        """Yield every object whose name starts with `prefix`, in order of name (as UTF-8). 1,000 a request."""
        token: str | None = None
        last, empty = "", 0
        while True:
            blobs, token = self._call(prefix, partial(_page, prefix=self._prefix + prefix, token=token))
            empty = 0 if blobs else empty + 1
            if (blobs and last and blobs[0].name <= last) or empty > _EMPTY_PAGES:
                raise UnavailableError(Problem(self._where(prefix), "the listing comes to no end", "try again"))
            last = blobs[-1].name if blobs else last
            inside = (self._inside(blob) for blob in blobs)
            yield from (blob for blob in inside if is_name(blob.name))  # a console's folder markers are not
            if not token:
                return

    def delete(self, name: str, *, if_generation: int | None = None) -> None:
        """Remove the object; removing what is not there is no error (unless a precondition says so)."""
        check_name(name)
        doubts: list[Exception] = []

        def attempt(wire: GcsHttp) -> None:
            from google.api_core import exceptions as api  # noqa: PLC0415

            try:
                wire.delete(self._prefix + name, if_generation)
            except api.PreconditionFailed:
                raise self._lost(name, if_generation, wire.meta(self._prefix + name)) from None
            except api.NotFound:
                found = wire.meta(self._prefix + name)  # raises when it is the bucket that is missing
                # When an earlier try's answer was lost, that try has most likely done it: gone is gone.
                if if_generation and not doubts:
                    raise self._lost(name, if_generation, found) from None
            except api.TooManyRequests:
                raise
            except Exception as error:
                doubts.append(error)
                raise

        self._call(name, attempt)

    def _slices(self, name: str, write: Callable[[bytes], None]) -> int:
        """Download slice by slice, each with its own retries; return the generation that all of them are of."""
        from imagetiers.stores import gcs_http  # noqa: PLC0415

        done, crc, expected = 0, 0, ""
        generation: int | None = None
        while True:
            content = self._call(name, partial(_slice, name=self._prefix + name, start=done, generation=generation))
            if isinstance(content, Exception):
                raise content  # for the retries of the whole download, not of this slice
            if content is None:
                break
            write(content.data)
            done, crc = done + len(content.data), google_crc32c.extend(crc, content.data)
            generation, expected = content.generation, content.crc32c
            if len(content.data) < _SLICE:
                break
        if generation is None:  # GCS has no range of an empty object
            return self.read(name, length=0)[1]
        gcs_http.check_crc32c(crc, expected)
        return generation

    def _write(
        self, name: str, content: bytes | memoryview | IO[bytes], size: int, crc: int, if_generation: int | None
    ) -> int:
        check_name(name)
        token = secrets.token_hex(16)

        def attempt(wire: GcsHttp) -> int:
            from google.api_core import exceptions as api  # noqa: PLC0415

            from imagetiers.stores import gcs_http  # noqa: PLC0415

            upload = gcs_http.Upload(content, size, gcs_http.crc32c_base64(crc), token)
            try:
                return wire.put(self._prefix + name, upload, if_generation)
            except api.PreconditionFailed:
                # Always looked up, not only after a lost answer: a proxy may have delivered our request twice.
                found = wire.meta(self._prefix + name)
                if found and found[1] == token:
                    return found[0].generation
                raise self._lost(name, if_generation, found) from None

        return self._call(name, attempt)

    def settings(self) -> BucketSettings:
        """Say what the bucket does by itself. Raises ForbiddenError without storage.buckets.get, and StoreError."""
        return self._call("", lambda wire: wire.settings())

    def _call(self, name: str, attempt: Callable[[GcsHttp], _Result]) -> _Result:
        """Run an attempt with retries, connecting first if need be."""

        def judge(error: Exception) -> RetryDecision:
            from imagetiers.stores import gcs_errors  # noqa: PLC0415

            return gcs_errors.judge(error, self._where(name), self._bucket)

        # A store that was given up is not waited for again by each of the calls that follow: one try tells whether it is back.
        policy = replace(self._policy, total=0.0) if self._given_up else self._policy
        try:
            result = retry(policy, lambda: self._watched(attempt), judge, self._hurried)
        except UnavailableError:
            self._given_up = True
            raise
        self._given_up = False
        return result

    def _watched(self, attempt: Callable[[GcsHttp], _Result]) -> _Result:
        """Make one attempt; after one that gave nothing or something damaged, the next is on other connections."""
        wire = self._wire()
        try:
            with wire.transport.exchange():
                return attempt(wire)
        except Exception as error:
            from imagetiers.stores import gcs_errors  # noqa: PLC0415

            answer = getattr(error, "response", None)
            if isinstance(error, OSError) and answer is not None:
                answer.raw.close()  # of a redirect
            if isinstance(error, NotFoundError | gcs_errors.ChecksumError | gcs_errors.ForeignAnswerError):
                wire.transport.reconnect()
            raise

    def _wire(self) -> GcsHttp:
        with self._lock:
            # A forked child must not talk over its parent's sockets.
            if self._connection is None or self._connection[0] != os.getpid():
                from imagetiers.stores import gcs_http  # noqa: PLC0415

                endpoint = self._endpoint or os.environ.get("STORAGE_EMULATOR_HOST")
                if endpoint and "://" not in endpoint:
                    endpoint = f"http://{endpoint}"
                wire = gcs_http.GcsHttp(self._bucket, endpoint, self._policy, self._threads, self._hurried)
                self._connection = os.getpid(), wire
            return self._connection[1]

    def _generation(self, wire: GcsHttp, name: str) -> int:
        """Ask for the generation of an object of which no byte was asked for. Raises NotFoundError."""
        found = wire.meta(self._prefix + name)
        if found is None:
            raise NotFoundError(Problem(self._where(name), "no such object"))
        return found[0].generation

    def _inside(self, blob: Blob) -> Blob:
        return replace(blob, name=blob.name.removeprefix(self._prefix))

    def _where(self, name: str) -> str:
        return f"gs://{self._bucket}/{self._prefix}{name}"

    def _lost(self, name: str, expected: int | None, found: tuple[Blob, str] | None) -> PreconditionError:
        now = f"is at generation {found[0].generation}" if found else "does not exist"
        what = "exists already" if expected == 0 else f"{now}, not at the expected {expected}"
        return PreconditionError(Problem(self._where(name), what, "another writer was first: read again, then retry"))


def _again(bucket: str, prefix: str, endpoint: str | None, threads: int, policy: RetryPolicy) -> GcsStore:
    return GcsStore(bucket, prefix, endpoint=endpoint, threads=threads, policy=policy)


def _slice(wire: GcsHttp, *, name: str, start: int, generation: int | None) -> Content | ChangedError | None:
    from imagetiers.stores import gcs_errors  # noqa: PLC0415

    try:
        return wire.get(name, start, _SLICE, generation)
    except gcs_errors.PastEndError:
        return None
    except gcs_errors.ChangedError as error:
        return error


def _page(wire: GcsHttp, *, prefix: str, token: str | None) -> tuple[list[Blob], str | None]:
    return wire.page(prefix, token)
