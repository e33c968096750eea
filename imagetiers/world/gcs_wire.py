"""Single requests to Google Cloud Storage, through Google's client; `gcs_errors` says what their failures mean.

Every function here makes one attempt: the client's own retries are off (but inside a resumable upload, where they
resume instead of starting over), because they forget whether a lost answer was a yes.
"""

from __future__ import annotations

import base64
import json
import secrets
import threading
from dataclasses import dataclass
from typing import IO, Any

import requests
from google.api_core import exceptions as api
from google.cloud import storage
from google.cloud.storage.retry import DEFAULT_RETRY
from requests.adapters import HTTPAdapter

from imagetiers.ports import Blob, BucketSettings
from imagetiers.world.gcs_errors import (
    ChangedError,
    ChecksumError,
    PastEndError,
    SessionLostError,
    bucket_is_missing,
    server_text,
)
from imagetiers.world.store_retry import RetryPolicy

__all__ = ["Content", "Upload", "Wire", "check_crc32c", "crc32c_base64"]

_TOKEN_KEY = "imagetiers-write"  # noqa: S105  the name of a metadata field
_CHUNK = 16 << 20  # of a resumable upload; held in memory. A multiple of 256 KiB
_WHOLE = 8 << 20  # bytes: more go into a resumable upload
_FIELDS = "name,size,generation,timeCreated"
_PAGE = 1000  # the most that GCS gives


@dataclass(frozen=True, slots=True)
class Content:
    """The answer to a download: bytes, the object's generation, and its whole content's CRC32C (base64, or '')."""

    data: bytes
    generation: int
    crc32c: str


@dataclass(frozen=True, slots=True)
class Upload:
    """What is to be stored: `size` bytes from the start of `stream`, their CRC32C, and a token to know our write by."""

    stream: IO[bytes]
    size: int
    crc32c: str
    token: str


@dataclass(frozen=True, slots=True)
class _Stored:
    size: int
    generation: int
    crc32c: str


class _CountingAdapter(HTTPAdapter):
    """Count what really goes over the wire, the client's own repetitions too."""

    def __init__(self, pool: int) -> None:
        super().__init__(pool_connections=4, pool_maxsize=pool)
        self.count = 0
        self._lock = threading.Lock()

    def send(self, *args: Any, **kwargs: Any) -> requests.Response:
        with self._lock:
            self.count += 1
        return super().send(*args, **kwargs)


class _Sink:
    """Collect a download without copying it: in one shot it is a single piece."""

    def __init__(self) -> None:
        self.pieces: list[bytes] = []

    def write(self, piece: bytes) -> int:
        self.pieces.append(piece)
        return len(piece)

    def bytes(self) -> bytes:
        return self.pieces[0] if len(self.pieces) == 1 else b"".join(self.pieces)


class Wire:
    """A connected client. Raises google.auth's errors when there are no credentials."""

    def __init__(self, bucket: str, endpoint: str | None, policy: RetryPolicy, threads: int) -> None:
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
        self._adapter = _CountingAdapter(threads)
        self._client._http.mount("https://", self._adapter)  # noqa: SLF001  the documented way to size the pool
        self._client._http.mount("http://", self._adapter)  # noqa: SLF001
        self._bucket = self._client.bucket(bucket)
        self._timeout = (policy.connect, policy.answer)
        self._resume = DEFAULT_RETRY.with_timeout(policy.total / 2).with_delay(policy.first, policy.most, 2)

    @property
    def requests(self) -> int:
        """How many HTTP requests were sent so far (without those for credentials)."""
        return self._adapter.count

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    def get(self, name: str, start: int, length: int | None, generation: int | None = None) -> Content:
        """Download the object or a range of it in one request, the given generation or the newest."""
        blob, sink = self._bucket.blob(name), _Sink()
        try:
            blob.download_to_file(
                sink,
                raw_download=True,
                start=start if start or length is not None else None,
                end=None if length is None else start + length - 1,
                if_generation_match=generation,
                checksum=None,  # checked by the caller, who alone knows when the content is whole
                single_shot_download=True,  # 8 KiB pieces otherwise: twice the CPU
                timeout=self._timeout,
                retry=None,
            )
        except api.RequestRangeNotSatisfiable as error:
            raise PastEndError from error
        except (api.PreconditionFailed, api.NotFound) as error:
            if generation is None:
                raise
            raise ChangedError from error
        return Content(sink.bytes(), int(blob.generation), str(blob.crc32c or ""))

    def put(self, name: str, upload: Upload, if_generation: int | None) -> int:
        """Upload; return the new generation. At most 8 MiB are one request, more are a resumable upload."""
        upload.stream.seek(0)
        stored = (self._put_whole if upload.size <= _WHOLE else self._put_chunks)(name, upload, if_generation)
        if stored.size != upload.size or stored.crc32c != upload.crc32c:
            raise ChecksumError(
                f"stored {stored.size} bytes, CRC32C {stored.crc32c}; sent {upload.size}, {upload.crc32c}"
            )
        return stored.generation

    def _put_whole(self, name: str, upload: Upload, if_generation: int | None) -> _Stored:
        """Upload in one multipart request.

        Not by the client: it puts the request together in steps, each of which copies all of it; the copies are a third
        of what pushing a pack costs.
        """
        resource = {"name": name, "crc32c": upload.crc32c, "metadata": {_TOKEN_KEY: upload.token}}
        boundary = secrets.token_hex(16)
        body = b"".join(
            (
                f"--{boundary}\r\nContent-Type: application/json; charset=UTF-8\r\n\r\n".encode(),
                json.dumps(resource).encode(),
                f"\r\n--{boundary}\r\nContent-Type: application/octet-stream\r\n\r\n".encode(),
                upload.stream.read(upload.size),
                f"\r\n--{boundary}--\r\n".encode(),
            )
        )
        query = {"uploadType": "multipart"}
        if if_generation is not None:
            query["ifGenerationMatch"] = str(if_generation)
        answer = self._client._http.post(  # noqa: SLF001
            f"{self._client.api_endpoint}/upload/storage/v1{self._bucket.path}/o",
            params=query,
            data=body,
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
                content_type="application/octet-stream",
                if_generation_match=if_generation,
                checksum=None,
                timeout=self._timeout,
                retry=self._resume,
            )
        except api.GoogleAPICallError as error:
            if error.code in (404, 410) and not bucket_is_missing(error):
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
            if bucket_is_missing(error):
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


def _raise_damaged(error: api.GoogleAPICallError) -> None:
    """Raise ChecksumError if that is what the server refused an upload for."""
    if error.code == requests.codes.bad_request and "crc32c" in server_text(error).lower():
        raise ChecksumError(f"the server received damaged content: {server_text(error)}") from error


def _blob(blob: Any) -> Blob:
    # timeCreated is when this generation was written; `updated` moves with metadata, too.
    written = blob.time_created
    return Blob(str(blob.name), int(blob.size), int(blob.generation), written.timestamp() if written else 0.0)
