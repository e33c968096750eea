"""Single requests to Google Cloud Storage, through Google's client; `gcs_errors` says what their failures mean.

Every function here makes one attempt: the client's own retries are off (but inside a resumable upload, where they
resume instead of starting over), because they forget whether a lost answer was a yes.
"""

from __future__ import annotations

import base64
import contextlib
import io
import json
import secrets
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import IO, Any, cast
from urllib.parse import quote

import requests
from google.api_core import exceptions as api
from google.cloud import storage
from google.cloud.storage.retry import DEFAULT_RETRY
from requests import Response

from imagetiers.retry import RetryPolicy
from imagetiers.stores.gcs_errors import (
    ChangedError,
    ChecksumError,
    ForeignAnswerError,
    PastEndError,
    SessionLostError,
    is_absence,
    server_text,
)
from imagetiers.stores.gcs_transport import ERROR_MAX, Transport, receive_into
from imagetiers.stores.port import Blob, BucketSettings

__all__ = ["Content", "GcsHttp", "Upload", "check_crc32c", "crc32c_base64"]

_TOKEN_KEY = "imagetiers-write"  # noqa: S105  the name of a metadata field
_CHUNK = 16 << 20  # of a resumable upload; held in memory. A multiple of 256 KiB
_WHOLE = 8 << 20  # bytes: more go into a resumable upload
_FIELDS = "name,size,generation,timeCreated"
_PAGE = 1000  # the most that GCS gives
_PIECE = 256 * 1024
_READ_MAX = 1 << 30  # bytes: more are read as files


@dataclass(frozen=True, slots=True)
class Content:
    """The answer to a download: bytes, the object's generation, and its whole content's CRC32C (base64, or '').

    `whole`: the bytes are the whole content.
    """

    data: bytes
    generation: int
    crc32c: str
    whole: bool = False


@dataclass(frozen=True, slots=True)
class Upload:
    """What is to be stored: bytes, or `size` of them from the start of a file, and their CRC32C.

    By the token the write is known to be ours.
    """

    content: bytes | memoryview | IO[bytes]
    size: int
    crc32c: str
    token: str

    @property
    def body(self) -> bytes | memoryview:
        """All of the bytes at once."""
        if isinstance(self.content, bytes | memoryview):
            return self.content
        self.content.seek(0)
        return self.content.read(self.size)

    @property
    def stream(self) -> IO[bytes]:
        """The bytes as a file, at its start."""
        if isinstance(self.content, bytes | memoryview):
            return io.BytesIO(self.content)
        self.content.seek(0)
        return self.content


@dataclass(frozen=True, slots=True)
class _Stored:
    size: int
    generation: int
    crc32c: str


class GcsHttp:
    """A connected client. Raises google.auth's errors when there are no credentials."""

    def __init__(
        self,
        bucket: str,
        endpoint: str | None,
        policy: RetryPolicy,
        threads: int,
        hurried: Callable[[], bool] = lambda: False,
    ) -> None:
        # project=None: objects need none, and without this the client fails where no default project is configured.
        if endpoint:
            self._client = storage.Client(
                project=None, client_options={"api_endpoint": endpoint}, use_auth_w_custom_endpoint=False
            )
        else:
            self._client = storage.Client(project=None)
        # The client asks for the bucket's project and location behind our back, in a thread, for traces that nobody
        # reads: a request more a run, and a permission more (storage.buckets.get).
        self._client._bucket_metadata_cache = None  # noqa: SLF001
        self._session: requests.Session = self._client._http  # noqa: SLF001  the documented way to size the pool
        self.transport = Transport(
            threads, answer=policy.answer, lowest=policy.lowest, window=policy.window, hurried=hurried
        )
        self.transport.mount(self._session)
        tokens = getattr(getattr(self._session, "_auth_request", None), "session", None)
        if isinstance(tokens, requests.Session):
            self.transport.mount(tokens)
        self._bucket = self._client.bucket(bucket)
        self._timeout = (policy.connect, policy.answer)
        self._resume = DEFAULT_RETRY.with_timeout(policy.total / 2).with_delay(policy.first, policy.most, 2)

    @property
    def requests(self) -> int:
        """How many HTTP requests were sent so far (without those for credentials)."""
        return self.transport.adapter.count

    def close(self) -> None:
        """Close the connections, also those that are in use."""
        self._client.close()
        self.transport.close()

    def get(self, name: str, start: int, length: int | None, generation: int | None = None) -> Content:
        """Download the object or a range of it in one request, the given generation or the newest."""
        with self._asked(name, start, length, generation) as answer:
            return _content(answer, start, length)

    def get_into(self, name: str, start: int, memory: memoryview) -> int:
        """Download the object or a range of it right into memory; return how many bytes of it were filled."""
        with self._asked(name, start, len(memory)) as answer:
            _check_answer(answer, start)
            size = 0
            with receive_into(memory):
                while size < len(memory) and (piece := answer.raw.read(len(memory) - size, decode_content=False)):
                    size += len(piece)
            answer.raw.read(1, decode_content=False)  # to see that it has ended: the connection is then used again
            return size

    @contextlib.contextmanager
    def _asked(self, name: str, start: int, length: int | None, generation: int | None = None) -> Iterator[Response]:
        """Ask for the object or a range of it, and yield the answer, which is no refusal."""
        query = {"alt": "media"}
        if generation is not None:
            query["ifGenerationMatch"] = str(generation)
        headers = {"Accept-Encoding": "identity"}
        if start or length is not None:
            headers["Range"] = f"bytes={start}-" if length is None else f"bytes={start}-{start + length - 1}"
        url = f"{self._client.api_endpoint}/download/storage/v1{self._bucket.path}/o/{quote(name, safe='')}"
        answer = self._session.get(url, params=query, headers=headers, timeout=self._timeout, stream=True)
        try:
            if answer.status_code not in (requests.codes.ok, requests.codes.partial):
                answer._content = answer.raw.read(ERROR_MAX)  # noqa: SLF001  a page of any size may come with an error
                self._raise_refused(answer, generation)
            yield answer
        finally:
            answer.raw.close()  # back in the pool by now, if all of it was read

    @staticmethod
    def _raise_refused(answer: Response, generation: int | None) -> None:
        if answer.status_code == requests.codes.requested_range_not_satisfiable:
            raise PastEndError
        error = api.from_http_response(answer)
        if generation is not None and (isinstance(error, api.PreconditionFailed) or is_absence(error)):
            raise ChangedError from error
        raise error

    def crc32c(self, name: str, generation: int) -> str:
        """Ask for the CRC32C of an object of that generation, where a download did not say; '' where there is none."""
        blob = self._bucket.blob(name)
        try:
            blob.reload(timeout=self._timeout, retry=None)
        except api.NotFound as error:
            raise ChangedError from error
        if int(blob.generation) != generation:
            raise ChangedError
        return str(blob.crc32c or "")

    def put(self, name: str, upload: Upload, if_generation: int | None) -> int:
        """Upload; return the new generation. At most 8 MiB are one request, more are a resumable upload."""
        stored = (self._put_whole if upload.size <= _WHOLE else self._put_chunks)(name, upload, if_generation)
        if stored.size != upload.size or stored.crc32c != upload.crc32c:
            raise ChecksumError(
                f"stored {stored.size} bytes, CRC32C {stored.crc32c}; sent {upload.size}, {upload.crc32c}"
            )
        return stored.generation

    def _put_whole(self, name: str, upload: Upload, if_generation: int | None) -> _Stored:
        """Upload in one multipart request, part by part.

        Not by the client: it puts the request together in steps, each of which copies all of it; the copies are a third
        of what pushing a pack costs.
        """
        resource = {"name": name, "crc32c": upload.crc32c, "metadata": {_TOKEN_KEY: upload.token}}
        boundary = secrets.token_hex(16)
        body = _Parts(
            f"--{boundary}\r\nContent-Type: application/json; charset=UTF-8\r\n\r\n{json.dumps(resource)}\r\n"
            f"--{boundary}\r\nContent-Type: {_media_type(name)}\r\n\r\n".encode(),
            upload.body,
            f"\r\n--{boundary}--\r\n".encode(),
        )
        query = {"uploadType": "multipart"}
        if if_generation is not None:
            query["ifGenerationMatch"] = str(if_generation)
        answer = self._session.post(
            f"{self._client.api_endpoint}/upload/storage/v1{self._bucket.path}/o",
            params=query,
            data=cast("Iterable[bytes]", body),  # memory goes through as it is
            headers={"Content-Type": f'multipart/related; boundary="{boundary}"'},
            timeout=self._timeout,
        )
        if answer.status_code != requests.codes.ok:
            refused = api.from_http_response(answer)
            _raise_damaged(refused)
            raise refused
        found = answer.json()
        return _Stored(int(found["size"]), int(found["generation"]), str(found["crc32c"]))

    def _put_chunks(self, name: str, upload: Upload, if_generation: int | None) -> _Stored:
        """Upload in several requests, resumed where one breaks."""
        blob = self._bucket.blob(name, chunk_size=_CHUNK)
        # Sent with the object: the server then refuses damaged content, instead of us finding it stored.
        blob.crc32c = upload.crc32c
        blob.metadata = {_TOKEN_KEY: upload.token}
        try:
            blob.upload_from_file(
                upload.stream,
                size=upload.size,
                content_type=_media_type(name),
                if_generation_match=if_generation,
                checksum=None,
                timeout=self._timeout,
                retry=self._resume,
            )
        except api.GoogleAPICallError as error:
            if error.code == requests.codes.gone or is_absence(error):
                raise SessionLostError from error
            _raise_damaged(error)
            raise
        return _Stored(int(blob.size), int(blob.generation), str(blob.crc32c))

    def meta(self, name: str) -> tuple[Blob, str] | None:
        """Return what is known of the object and the token of the write that made it; None when it is not there."""
        blob = self._bucket.blob(name)
        try:
            blob.reload(timeout=self._timeout, retry=None)
        except api.NotFound as error:
            if not is_absence(error):
                raise
            return None
        return _blob(blob), str((blob.metadata or {}).get(_TOKEN_KEY, ""))

    def page(self, prefix: str, token: str | None) -> tuple[list[Blob], str | None]:
        """Return one page of the listing and the next page's token."""
        found = self._client.list_blobs(
            self._bucket,
            prefix=prefix,
            page_token=token,
            page_size=_PAGE,
            fields=f"items({_FIELDS}),nextPageToken",
            timeout=self._timeout,
            retry=None,
        )
        page = next(found.pages, ())
        return [_blob(blob) for blob in page], found.next_page_token

    def settings(self) -> BucketSettings:
        """Ask for what the bucket does by itself."""
        return settings(self._bucket, self._timeout)

    def delete(self, name: str, if_generation: int | None) -> None:
        """Remove the object; raises google.api_core's NotFound."""
        self._bucket.blob(name).delete(if_generation_match=if_generation, timeout=self._timeout, retry=None)


class _Parts:
    """The body of a request in parts, which are sent one after the other: of 8 MiB, no copy is made to put them together."""

    def __init__(self, *parts: bytes | memoryview) -> None:
        self._parts = parts

    def __len__(self) -> int:
        return sum(map(len, self._parts))

    def __iter__(self) -> Iterator[bytes | memoryview]:
        return iter(self._parts)


def settings(bucket: storage.Bucket, timeout: tuple[float, float]) -> BucketSettings:
    """Ask for what the bucket does by itself; needs storage.buckets.get."""
    bucket.reload(timeout=timeout, retry=None)
    return BucketSettings(
        soft_delete=int(bucket.soft_delete_policy.retention_duration_seconds or 0),
        versioning=bool(bucket.versioning_enabled),
        uniform_access=bool(bucket.iam_configuration.uniform_bucket_level_access_enabled),
        lifecycle=tuple(json.dumps(dict(rule), sort_keys=True) for rule in bucket.lifecycle_rules),
    )


def crc32c_base64(value: int) -> str:
    """Write a CRC32C as GCS does: base64 of 4 big-endian bytes."""
    return base64.b64encode(value.to_bytes(4, "big")).decode("ascii")


def check_crc32c(actual: int, expected: str) -> None:
    """Raise ChecksumError unless it is the expected one; an emulator may send none."""
    if expected and crc32c_base64(actual) != expected:
        raise ChecksumError(f"the content's CRC32C is {crc32c_base64(actual)}, the object's is {expected}")


def _content(answer: Response, start: int, length: int | None) -> Content:
    """Read a download's content, not more of it than was asked for."""
    most = _READ_MAX if length is None else length
    generation, partial = _check_answer(answer, start)
    content, size, ended = io.BytesIO(), 0, False  # which gives its bytes without copying them once more
    while size < most:
        piece = answer.raw.read(min(_PIECE, most - size), decode_content=False)
        if not piece:
            ended = True
            break
        content.write(piece)
        size += len(piece)
    total = answer.headers.get("Content-Range", "").rpartition("/")[2] if partial else ""
    ended = ended or not answer.raw.read(1, decode_content=False)
    if not ended and length is None:
        raise ForeignAnswerError(f"more than {_READ_MAX} bytes")
    whole = not start and (total == str(size) if partial else ended)
    hashes = dict(
        part.strip().split("=", 1) for part in answer.headers.get("x-goog-hash", "").split(",") if "=" in part
    )
    return Content(content.getvalue(), generation, hashes.get("crc32c", ""), whole)


def _check_answer(answer: Response, start: int) -> tuple[int, bool]:
    """Return the generation of what is downloaded, and whether the answer has a part of it. Raises ForeignAnswerError."""
    generation = answer.headers.get("x-goog-generation", "")
    if not generation.isdigit():
        raise ForeignAnswerError("a download without x-goog-generation")
    partial = answer.status_code == requests.codes.partial
    if start and not partial:
        raise ForeignAnswerError("all of the object, where a part of it was asked for")
    return int(generation), partial


def _raise_damaged(error: api.GoogleAPICallError) -> None:
    """Raise ChecksumError if that is what the server refused an upload for."""
    if error.code == requests.codes.bad_request and "crc32c" in server_text(error).lower():
        raise ChecksumError(f"the server received damaged content: {server_text(error)}") from error


def _blob(blob: Any) -> Blob:
    # timeCreated is when this generation was written; `updated` moves with metadata, too.
    written = blob.time_created
    return Blob(str(blob.name), int(blob.size), int(blob.generation), written.timestamp() if written else 0.0)


def _media_type(name: str) -> str:
    """Return what a browser is told of an object: pages are shown, everything else is saved."""
    return "text/html; charset=utf-8" if name.endswith(".html") else "application/octet-stream"
