"""A Google Cloud Storage server for tests: the JSON API's objects in memory, strict where emulators are lax.

    python tests/gcs/server.py --port 0 [--dir DIR] [--latency SECONDS] [--no-md5] [--bucket NAME]...

prints `http://127.0.0.1:PORT` and serves until it is ended or, with --follow, until its stdin closes.

Served: buckets (create, get, patch, delete, list); objects: insert as media, multipart (CRLF and bare LF) and resumable
(308, Range, 256 KiB rule, `bytes */N`), checksums refused with 400; get, alt=media, /download/, ranges and 416; list
with prefix, delimiter, offsets, paging, fields; patch; delete; compose; rewrite. All four preconditions on every verb.

Not served: object versions, soft delete, ACLs, batch, XML, gzip transcoding, matchGlob.

Faults: POST /_test/config with any of
    rules       a list of Rule, as objects; the first that matches a request applies
    latency     seconds added to every request
    one_write_per_second    answer 429 to a write of the same name within a second, as GCS does
    clear       true: forget rules, settings, counters and log
Principals: with `principals` in that config, {NAME: [what the names begin with that it may write]}, requests must come below
/_as/NAME, all may read, and a write elsewhere is a 403, as conditions on resource.name make it.

GET /_test/stats and /_test/log say what was asked. Requests to /_test/ themselves are not counted.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import bisect
import hashlib
import json
import re
import secrets
import socket
import struct
import sys
import time
from collections import Counter, deque
from dataclasses import dataclass, field, fields
from datetime import UTC, datetime
from email.utils import formatdate
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, quote, unquote, urlsplit

import google_crc32c

Json = dict[str, Any]

QUANTUM = 256 * 1024
PAGE = 1000
WRITABLE = (
    *("cacheControl", "contentDisposition", "contentEncoding", "contentLanguage", "contentType"),
    *("customTime", "metadata", "storageClass"),
)
REASONS = {200: "OK", 204: "No Content", 206: "Partial Content", 304: "Not Modified", 308: "Resume Incomplete"}


class Refused(Exception):  # noqa: N818  an HTTP answer, not an error of ours
    """An answer other than success."""

    def __init__(self, status: int, message: str = "", headers: dict[str, str] | None = None) -> None:
        super().__init__(message)
        self.status, self.message, self.headers = status, message, headers or {}


@dataclass
class Rule:
    """What to do to requests: to those of `op` (any if empty) whose path and query match, but the first `skip`."""

    fault: str  # status | delay | reset | cut | truncate | corrupt | duplicate
    op: str = ""  # insert | resumable | chunk | download | get | list | patch | delete | compose | rewrite | bucket
    match: str = ""  # a regular expression, searched in the decoded path and query
    skip: int = 0
    times: int = 1  # how often; 0 = always
    status: int = 503
    message: str = "injected"
    seconds: float = 0.0
    used: int = 0

    def applies(self, request: Request) -> bool:
        if (self.op and self.op != request.op) or not re.search(self.match, unquote(request.target)):
            return False
        if self.skip > 0:
            self.skip -= 1
            return False
        self.used += 1
        return not self.times or self.used <= self.times


@dataclass
class Request:
    method: str
    target: str
    headers: dict[str, str]
    body: bytes
    path: str = ""
    query: dict[str, str] = field(default_factory=dict)
    op: str = ""
    principal: str = ""
    damaged: bool = False  # flip a bit of the content that comes in

    @property
    def origin(self) -> str:
        return f"http://{self.headers.get('host', '127.0.0.1')}"


@dataclass
class Answer:
    status: int = 200
    body: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)

    @staticmethod
    def json(value: Json, status: int = 200, **headers: str) -> Answer:
        return Answer(status, json.dumps(value).encode(), {"Content-Type": "application/json", **headers})


@dataclass
class Stored:
    """An object; never changed, replaced as a whole."""

    name: str
    data: bytes
    generation: int
    metageneration: int
    created: float
    updated: float
    crc32c: str
    md5: str
    components: int
    given: Json  # the writable fields

    def resource(self, bucket: str, origin: str) -> Json:
        path = f"b/{quote(bucket, safe='')}/o/{quote(self.name, safe='')}"
        generation = str(self.generation)
        return {
            "kind": "storage#object",
            "id": f"{bucket}/{self.name}/{generation}",
            "selfLink": f"{origin}/storage/v1/{path}",
            "mediaLink": f"{origin}/download/storage/v1/{path}?generation={generation}&alt=media",
            "name": self.name,
            "bucket": bucket,
            "generation": generation,
            "metageneration": str(self.metageneration),
            "size": str(len(self.data)),
            "crc32c": self.crc32c,
            "etag": f"{generation}/{self.metageneration}",
            "timeCreated": _time(self.created),
            "updated": _time(self.updated),
            "timeStorageClassUpdated": _time(self.created),
            "storageClass": "STANDARD",
            **({"md5Hash": self.md5} if self.md5 else {}),
            **({"componentCount": self.components} if self.components else {}),
            **self.given,
        }


@dataclass
class Bucket:
    name: str
    meta: Json
    objects: dict[str, Stored] = field(default_factory=dict)
    names: list[str] = field(default_factory=list)  # sorted


@dataclass
class Session:
    """A resumable upload."""

    bucket: str
    query: dict[str, str]
    meta: Json
    data: bytearray = field(default_factory=bytearray)
    done: Json | None = None


class Storage:
    """Buckets and objects, and what may be done to them. One thread only."""

    def __init__(self, folder: Path | None = None, *, md5: bool = True) -> None:
        self.buckets: dict[str, Bucket] = {}
        self.folder, self.md5 = folder, md5
        self.one_write_per_second = False
        self.writable: tuple[str, ...] | None = None  # of who asks at the moment; None: everything
        self._last_generation = 0
        self._last_write: dict[tuple[str, str], float] = {}
        if folder:
            self._load(folder)

    # buckets

    def create(self, name: str, meta: Json) -> Bucket:
        if name in self.buckets:
            raise Refused(409, "Your previous request to create the named bucket succeeded and you already own it.")
        bucket = self.buckets[name] = Bucket(name, {"metageneration": "1", "timeCreated": _time(time.time()), **meta})
        self.save_bucket(bucket)
        return bucket

    def bucket(self, name: str) -> Bucket:
        if name not in self.buckets:
            raise Refused(404, "The specified bucket does not exist.")
        return self.buckets[name]

    # objects

    def find(self, bucket: str, name: str, query: dict[str, str]) -> Stored:
        """Return the object for reading: 404, then 412 and 304."""
        stored = self.bucket(bucket).objects.get(name)
        wanted = query.get("generation")
        if stored is None or (wanted and int(wanted) != stored.generation):
            raise Refused(404, f"No such object: {bucket}/{name}")
        self._check(stored, query, reading=True)
        return stored

    def check_write(self, bucket: str, name: str, query: dict[str, str]) -> None:
        if not name or len(name.encode()) > 1024 or name in (".", "..") or "\r" in name or "\n" in name:
            raise Refused(400, f"Invalid object name: {name!r}")
        self.permit(name)
        self._check(self.bucket(bucket).objects.get(name), query)

    def permit(self, name: str) -> None:
        """Refuse a write of what IAM does not let this principal write: before anything else is said of the object."""
        if self.writable is not None and not name.startswith(self.writable):
            raise Refused(403, "does not have storage.objects.create access to the Google Cloud Storage object.")

    def put(
        self, bucket: str, name: str, data: bytes, meta: Json, query: dict[str, str], components: int = 0
    ) -> Stored:
        """Store an object if the preconditions and the given checksums hold."""
        self.check_write(bucket, name, query)
        crc32c = _b64(google_crc32c.value(data).to_bytes(4, "big"))
        if meta.get("crc32c", crc32c) != crc32c:
            raise Refused(400, f'Provided CRC32C "{meta["crc32c"]}" doesn\'t match calculated CRC32C "{crc32c}".')
        md5 = _b64(hashlib.md5(data).digest()) if self.md5 or "md5Hash" in meta else ""  # noqa: S324
        if meta.get("md5Hash", md5) != md5:
            raise Refused(400, f'Provided MD5 hash "{meta["md5Hash"]}" doesn\'t match calculated MD5 hash "{md5}".')
        now = time.time()
        self._throttle(bucket, name, now)
        given = {key: meta[key] for key in WRITABLE if key in meta}
        generation = self._next_generation()
        stored = Stored(name, data, generation, 1, now, now, crc32c, "" if components else md5, components, given)
        self._place(self.bucket(bucket), stored)
        return stored

    def patch(self, bucket: str, name: str, changes: Json, query: dict[str, str]) -> Stored:
        self.permit(name)
        old = self.find(bucket, name, {k: v for k, v in query.items() if k == "generation"})
        self._check(old, query)
        self._throttle(bucket, name, time.time())
        given = _merge(old.given, {key: changes[key] for key in WRITABLE if key in changes})
        new = Stored(
            **{**{f.name: getattr(old, f.name) for f in fields(Stored)}, "given": given, "updated": time.time()}
        )
        new.metageneration += 1
        self._place(self.bucket(bucket), new)
        return new

    def delete(self, bucket: str, name: str, query: dict[str, str]) -> None:
        self.permit(name)
        stored = self.find(bucket, name, {k: v for k, v in query.items() if k == "generation"})
        self._check(stored, query)
        owner = self.bucket(bucket)
        del owner.objects[name]
        owner.names.pop(bisect.bisect_left(owner.names, name))
        if self.folder:
            self._file(bucket, name).unlink()

    def list(self, bucket: str, query: dict[str, str]) -> tuple[list[Stored], list[str], str]:
        """Return one page: objects, prefixes, and the next page's token."""
        owner = self.bucket(bucket)
        prefix, delimiter = query.get("prefix", ""), query.get("delimiter", "")
        start, end = query.get("startOffset", ""), query.get("endOffset", "")
        most = min(int(query.get("maxResults", PAGE)) or PAGE, PAGE)
        after = base64.urlsafe_b64decode(query["pageToken"]).decode() if query.get("pageToken") else None
        found: list[Stored] = []
        prefixes: list[str] = []
        at = bisect.bisect_left(owner.names, max(prefix, start, after or ""))
        while at < len(owner.names):
            name = owner.names[at]
            at += 1
            if not name.startswith(prefix) or (end and name >= end):
                break
            cut = name.find(delimiter, len(prefix)) if delimiter else -1
            shown = name[: cut + len(delimiter)] if cut >= 0 else name
            if after is not None and (name == after or (after.endswith(delimiter or "\0") and shown == after)):
                continue
            if prefixes and shown == prefixes[-1]:
                continue
            if len(found) + len(prefixes) == most:
                last = max([o.name for o in found[-1:]] + prefixes[-1:])
                return found, prefixes, base64.urlsafe_b64encode(last.encode()).decode()
            if cut >= 0:
                prefixes.append(shown)
            else:
                found.append(owner.objects[name])
        return found, prefixes, ""

    def _check(self, stored: Stored | None, query: dict[str, str], *, reading: bool = False) -> None:
        generation, metageneration = (stored.generation, stored.metageneration) if stored else (0, 0)
        for key, value in query.items():
            if key in ("ifGenerationMatch", "ifMetagenerationMatch"):
                actual = generation if key == "ifGenerationMatch" else metageneration
                if int(value) != actual:
                    raise Refused(412, "At least one of the pre-conditions you specified did not hold.")
            # The Python client spells the last one with a capital G when it uploads; the server does not mind.
            elif key.lower() in ("ifgenerationnotmatch", "ifmetagenerationnotmatch"):
                actual = generation if key.lower() == "ifgenerationnotmatch" else metageneration
                if int(value) == actual:
                    raise Refused(304 if reading else 412, "At least one of the pre-conditions did not hold.")

    def _throttle(self, bucket: str, name: str, now: float) -> None:
        if self.one_write_per_second and now - self._last_write.get((bucket, name), 0.0) < 1.0:
            raise Refused(429, f"The object {bucket}/{name} exceeded the rate limit for object mutation operations.")
        self._last_write[bucket, name] = now

    def _next_generation(self) -> int:
        self._last_generation = max(time.time_ns() // 1000, self._last_generation + 1)
        return self._last_generation

    def _place(self, bucket: Bucket, stored: Stored) -> None:
        if stored.name not in bucket.objects:
            bisect.insort(bucket.names, stored.name)
        bucket.objects[stored.name] = stored
        if self.folder:
            head = {f.name: getattr(stored, f.name) for f in fields(Stored) if f.name != "data"}
            path = self._file(bucket.name, stored.name)
            temporary = path.with_suffix(".tmp")
            temporary.write_bytes(json.dumps(head).encode() + b"\n" + stored.data)
            temporary.replace(path)

    # persistence: a folder a bucket, a file an object: a line of JSON, then the data

    def _file(self, bucket: str, name: str) -> Path:
        assert self.folder
        return self.folder / bucket / (hashlib.sha256(name.encode()).hexdigest() + ".object")

    def save_bucket(self, bucket: Bucket) -> None:
        if self.folder:
            (self.folder / bucket.name).mkdir(parents=True, exist_ok=True)
            (self.folder / bucket.name / "bucket.json").write_text(json.dumps(bucket.meta))

    def _load(self, folder: Path) -> None:
        for meta in folder.glob("*/bucket.json"):
            bucket = self.buckets[meta.parent.name] = Bucket(meta.parent.name, json.loads(meta.read_text()))
            for path in meta.parent.glob("*.object"):
                head, _, data = path.read_bytes().partition(b"\n")
                stored = Stored(data=data, **json.loads(head))
                bucket.objects[stored.name] = stored
                self._last_generation = max(self._last_generation, stored.generation)
            bucket.names = sorted(bucket.objects)


class Api:
    """The JSON API: from a Request to an Answer."""

    ROUTES = (
        (r"/storage/v1/b", {"GET": "bucket", "POST": "bucket"}),
        (r"/storage/v1/b/(?P<b>[^/]+)", {"GET": "bucket", "PATCH": "bucket", "DELETE": "bucket"}),
        (r"/storage/v1/b/(?P<b>[^/]+)/o", {"GET": "list"}),
        (r"/storage/v1/b/(?P<b>[^/]+)/o/(?P<o>[^/]+)", {"GET": "get", "PATCH": "patch", "DELETE": "delete"}),
        (r"/download/storage/v1/b/(?P<b>[^/]+)/o/(?P<o>[^/]+)", {"GET": "download"}),
        (r"/upload/storage/v1/b/(?P<b>[^/]+)/o", {"POST": "insert", "PUT": "chunk", "DELETE": "chunk"}),
        (r"/storage/v1/b/(?P<b>[^/]+)/o/(?P<o>[^/]+)/compose", {"POST": "compose"}),
        (
            r"/storage/v1/b/(?P<b>[^/]+)/o/(?P<o>[^/]+)/(?:rewriteTo|copyTo)/b/(?P<b2>[^/]+)/o/(?P<o2>[^/]+)",
            {"POST": "rewrite"},
        ),
    )

    def __init__(self, storage: Storage) -> None:
        self.storage = storage
        self.sessions: dict[str, Session] = {}
        self._routes = [(re.compile(pattern), methods) for pattern, methods in self.ROUTES]

    def route(self, request: Request) -> dict[str, str]:
        """Set the request's operation; return the names in its path."""
        for pattern, methods in self._routes:
            found = pattern.fullmatch(request.path)
            if found and request.method in methods:
                request.op = methods[request.method]
                if request.op == "get" and request.query.get("alt") == "media":
                    request.op = "download"
                if request.op == "insert" and request.query.get("uploadType") == "resumable":
                    request.op = "resumable"
                return {key: unquote(value) for key, value in found.groupdict().items()}
        return {}

    def answer(self, request: Request, where: dict[str, str]) -> Answer:
        if not request.op:
            return error(404, f"Not served: {request.method} {request.path}")
        try:
            answer: Answer = getattr(self, f"_{request.op}")(request, **where)
        except Refused as refused:
            if refused.status in (304, 308):
                return Answer(refused.status, b"", refused.headers)
            return error(refused.status, refused.message, **refused.headers)
        except (ValueError, KeyError) as wrong:
            return error(400, f"Bad request: {wrong!r}")
        if "fields" in request.query and answer.headers.get("Content-Type") == "application/json":
            wanted = _parse_fields(request.query["fields"])
            answer.body = json.dumps(_only(json.loads(answer.body), wanted)).encode()
        return answer

    def _bucket(self, request: Request, b: str = "") -> Answer:
        storage = self.storage
        if request.method == "POST":
            meta = json.loads(request.body)
            bucket = storage.create(meta.pop("name"), meta)
        elif not b:
            return Answer.json(
                {"kind": "storage#buckets", "items": [_bucket_json(x) for x in storage.buckets.values()]}
            )
        elif request.method == "DELETE":
            if storage.bucket(b).objects:
                raise Refused(409, "The bucket you tried to delete is not empty.")
            del storage.buckets[b]
            return Answer(204)
        else:
            bucket = storage.bucket(b)
            if request.method == "PATCH":
                bucket.meta = _merge(bucket.meta, json.loads(request.body))
                bucket.meta["metageneration"] = str(int(bucket.meta["metageneration"]) + 1)
                storage.save_bucket(bucket)
        return Answer.json(_bucket_json(bucket))

    def _list(self, request: Request, b: str) -> Answer:
        found, prefixes, token = self.storage.list(b, request.query)
        page: Json = {"kind": "storage#objects"}
        if found:
            page["items"] = [stored.resource(b, request.origin) for stored in found]
        if prefixes:
            page["prefixes"] = prefixes
        if token:
            page["nextPageToken"] = token
        return Answer.json(page)

    def _get(self, request: Request, b: str, o: str) -> Answer:
        return Answer.json(self.storage.find(b, o, request.query).resource(b, request.origin))

    def _download(self, request: Request, b: str, o: str) -> Answer:
        stored = self.storage.find(b, o, request.query)
        size = len(stored.data)
        headers = {
            "Content-Type": stored.given.get("contentType", "application/octet-stream"),
            "ETag": f'"{stored.generation}/{stored.metageneration}"',
            "Accept-Ranges": "bytes",
            "X-Goog-Generation": str(stored.generation),
            "X-Goog-Metageneration": str(stored.metageneration),
            "X-Goog-Hash": f"crc32c={stored.crc32c}" + (f",md5={stored.md5}" if stored.md5 else ""),
            "X-Goog-Stored-Content-Length": str(size),
            "X-Goog-Stored-Content-Encoding": stored.given.get("contentEncoding", "identity"),
            "X-Goog-Storage-Class": "STANDARD",
        }
        asked = re.fullmatch(r"bytes=(\d*)-(\d*)", request.headers.get("range", ""))
        if not asked or asked[0] == "bytes=-" or (asked[1] and asked[2] and int(asked[2]) < int(asked[1])):
            return Answer(200, stored.data, headers)
        first = int(asked[1]) if asked[1] else max(0, size - int(asked[2]))
        last = min(int(asked[2]), size - 1) if asked[1] and asked[2] else size - 1
        if first >= size:
            headers = {"Content-Range": f"bytes */{size}", "X-Goog-Generation": str(stored.generation)}
            raise Refused(416, "The requested range cannot be satisfied.", headers)
        return Answer(206, stored.data[first : last + 1], {**headers, "Content-Range": f"bytes {first}-{last}/{size}"})

    def _insert(self, request: Request, b: str) -> Answer:
        kind, content_type = request.query.get("uploadType"), request.headers.get("content-type", "")
        if kind == "multipart":
            meta, data, part_type = _parse_multipart(content_type, request.body)
            meta.setdefault("contentType", part_type or "application/octet-stream")
        elif kind == "media":
            meta, data = {"contentType": content_type or "application/octet-stream"}, request.body
        else:
            raise Refused(400, f"uploadType is {kind!r}")
        meta.update(_given_hashes(request.headers))
        data = _flip(data) if request.damaged else data
        name = request.query.get("name") or str(meta["name"])
        return Answer.json(self.storage.put(b, name, data, meta, request.query).resource(b, request.origin))

    def _resumable(self, request: Request, b: str) -> Answer:
        meta = json.loads(request.body or b"{}")
        meta["name"] = name = request.query.get("name") or meta["name"]
        meta.setdefault("contentType", request.headers.get("x-upload-content-type", "application/octet-stream"))
        self.storage.check_write(b, name, request.query)
        upload_id = secrets.token_urlsafe(24)
        self.sessions[upload_id] = Session(b, dict(request.query), meta)
        path = f"/upload/storage/v1/b/{quote(b, safe='')}/o?uploadType=resumable&upload_id={upload_id}"
        return Answer(200, b"", {"Location": request.origin + path, "X-GUploader-UploadID": upload_id})

    def _chunk(self, request: Request, b: str) -> Answer:
        session = self.sessions.get(request.query.get("upload_id", ""))
        if session is None or session.bucket != b:
            raise Refused(404, "No such upload session")
        if request.method == "DELETE":
            del self.sessions[request.query["upload_id"]]
            return Answer(499)
        if session.done is not None:
            return Answer.json(session.done)
        range_given = request.headers.get("content-range", f"bytes 0-{len(request.body) - 1}/{len(request.body)}")
        asked = re.fullmatch(r"bytes (?:(\d+)-(\d+)|\*)/(\d+|\*)", range_given)
        if not asked:
            raise Refused(400, f"Invalid Content-Range: {range_given!r}")
        body = _flip(request.body) if request.damaged else request.body
        total = None if asked[3] == "*" else int(asked[3])
        if asked[1] is not None:
            self._take(session, int(asked[1]), int(asked[2]), total, body)
        if total is None or len(session.data) < total:
            have = len(session.data)
            raise Refused(308, headers={"Range": f"bytes=0-{have - 1}"} if have else {})
        meta = {**session.meta, **_given_hashes(request.headers)}
        try:
            stored = self.storage.put(b, meta["name"], bytes(session.data), meta, session.query)
        except Refused:
            del self.sessions[request.query["upload_id"]]
            raise
        session.done, session.data = stored.resource(b, request.origin), bytearray()
        return Answer.json(session.done)

    @staticmethod
    def _take(session: Session, first: int, last: int, total: int | None, body: bytes) -> None:
        """Keep what is new of a chunk; of one that is not the last, whole 256 KiB only."""
        have = len(session.data)
        if last - first + 1 != len(body) or first > have or (total is not None and last >= total):
            raise Refused(400, f"Content-Range {first}-{last}/{total}: {len(body)} bytes sent, {have} bytes held")
        new = memoryview(body)[have - first :]
        if last + 1 != total:
            new = new[: max(0, (have + len(new)) // QUANTUM * QUANTUM - have)]
        session.data += new

    def _patch(self, request: Request, b: str, o: str) -> Answer:
        stored = self.storage.patch(b, o, json.loads(request.body), request.query)
        return Answer.json(stored.resource(b, request.origin))

    def _delete(self, request: Request, b: str, o: str) -> Answer:
        self.storage.delete(b, o, request.query)
        return Answer(204)

    def _compose(self, request: Request, b: str, o: str) -> Answer:
        body = json.loads(request.body)
        sources = body["sourceObjects"]
        if not 1 <= len(sources) <= 32:
            raise Refused(400, "The number of source components provided must be between 1 and 32.")
        data, components = b"", 0
        for source in sources:
            query = {"generation": str(source["generation"])} if "generation" in source else {}
            wanted = source.get("objectPreconditions", {})
            found = self.storage.find(b, source["name"], query)
            if wanted and int(wanted["ifGenerationMatch"]) != found.generation:
                raise Refused(412, "At least one of the pre-conditions you specified did not hold.")
            data, components = data + found.data, components + (found.components or 1)
        meta = body.get("destination", {})
        return Answer.json(self.storage.put(b, o, data, meta, request.query, components).resource(b, request.origin))

    def _rewrite(self, request: Request, b: str, o: str, b2: str, o2: str) -> Answer:
        renamed = {"ifSource" + key[2:]: key for key in request.query if key.startswith("if")}
        source_query = {key: request.query[name] for name, key in renamed.items() if name in request.query}
        source = self.storage.find(b, o, source_query)
        meta = {**source.given, **json.loads(request.body or b"{}")}
        meta = {key: value for key, value in meta.items() if key in WRITABLE}
        new = self.storage.put(b2, o2, source.data, meta, request.query).resource(b2, request.origin)
        if "/copyTo/" in request.path:
            return Answer.json(new)
        size = str(len(source.data))
        done = {"kind": "storage#rewriteResponse", "done": True, "totalBytesRewritten": size, "objectSize": size}
        return Answer.json({**done, "resource": new})


class Server:
    """Faults, counters and the control requests; one for all connections."""

    def __init__(self, storage: Storage, latency: float = 0.0) -> None:
        self.storage, self.api = storage, Api(storage)
        self.latency = latency
        self.rules: list[Rule] = []
        self.principals: dict[str, list[str]] = {}
        self.counts: Counter[str] = Counter()
        self.bytes = {"in": 0, "out": 0}
        self.log: deque[Json] = deque(maxlen=100_000)

    def control(self, request: Request) -> Answer:
        if request.path == "/_test/stats":
            counts = {"requests": self.counts.total(), "by_op": dict(self.counts), "bytes": dict(self.bytes)}
            return Answer.json(counts)
        if request.path == "/_test/log":
            return Answer.json({"log": list(self.log)})
        if request.path == "/_test/config" and request.method == "POST":
            wanted = json.loads(request.body)
            if wanted.get("clear"):
                self.rules, self.latency, self.storage.one_write_per_second = [], 0.0, False
                self.counts.clear()
                self.log.clear()
                self.bytes = {"in": 0, "out": 0}
            if "rules" in wanted:
                self.rules = [Rule(**rule) for rule in wanted["rules"]]
            self.latency = wanted.get("latency", self.latency)
            self.principals = wanted.get("principals", self.principals)
            self.storage.one_write_per_second = wanted.get("one_write_per_second", self.storage.one_write_per_second)
            return Answer.json({})
        return error(404, "no such control")

    def rule_for(self, request: Request) -> Rule | None:
        return next((rule for rule in self.rules if rule.applies(request)), None)

    def perform(self, request: Request, where: dict[str, str], rule: Rule | None) -> Answer:
        fault = rule.fault if rule else ""
        if rule and fault == "status":
            return error(rule.status, rule.message)
        request.damaged = fault == "corrupt"
        if self.principals and request.principal not in self.principals:
            return error(401, "Anonymous caller does not have storage.objects.get access.")
        writable = tuple(self.principals[request.principal]) if self.principals else None
        self.api.storage.writable = writable
        answer = self.api.answer(request, where)
        if fault == "duplicate":
            answer = self.api.answer(request, where)
        if fault == "corrupt" and request.op == "download":
            answer.body = _flip(answer.body)
        return answer


class Connection(asyncio.Protocol):
    """HTTP/1.1 with keep-alive; one request at a time."""

    def __init__(self, server: Server) -> None:
        self.server = server
        self.buffer = bytearray()
        self.head: tuple[str, str, dict[str, str]] | None = None
        self.busy = False
        self.transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self.buffer += data
        self._next()

    def _next(self) -> None:
        while not self.busy and not self.transport.is_closing():
            if self.head is None:
                end = self.buffer.find(b"\r\n\r\n")
                if end < 0:
                    return
                first, *lines = bytes(self.buffer[:end]).decode("latin-1").split("\r\n")
                del self.buffer[: end + 4]
                method, target, _ = first.split(" ", 2)
                pairs = (line.partition(":") for line in lines)
                self.head = method, target, {name.lower().strip(): value.strip() for name, _, value in pairs}
                if self.head[2].get("expect", "").lower() == "100-continue":
                    self.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
            body = self._body(self.head[2])
            if body is None:
                return
            request = Request(*self.head, body)
            self.head = None
            self._handle(request)

    def _body(self, headers: dict[str, str]) -> bytes | None:
        """Take the body off the buffer, or return None when it is not all there."""
        if headers.get("transfer-encoding", "").lower() == "chunked":
            found = _chunked(self.buffer)
            if found is None:
                return None
            body, used = found
        else:
            used = int(headers.get("content-length", 0))
            if len(self.buffer) < used:
                return None
            with memoryview(self.buffer) as view:
                body = bytes(view[:used])
        del self.buffer[:used]
        return body

    def _handle(self, request: Request) -> None:
        url = urlsplit(request.target)
        request.path, request.query = url.path, dict(parse_qsl(url.query, keep_blank_values=True))
        if request.path.startswith("/_test/"):
            self._send(self.server.control(request))
            return
        if request.path.startswith("/_as/"):
            _, _, request.principal, rest = request.path.split("/", 3)
            request.path = f"/{rest}"
        server = self.server
        where = server.api.route(request)
        server.counts[request.op or "unknown"] += 1
        server.bytes["in"] += len(request.body)
        rule = server.rule_for(request)
        wait = server.latency + (rule.seconds if rule else 0.0)
        if not wait:
            self._respond(request, where, rule)
            return
        self.busy = True
        asyncio.get_running_loop().call_later(wait, self._respond_late, request, where, rule)

    def _respond_late(self, request: Request, where: dict[str, str], rule: Rule | None) -> None:
        # A client that has gone away meanwhile is not asked: on the real thing, too, its request goes on.
        self._respond(request, where, rule)
        self.busy = False
        self._next()

    def _respond(self, request: Request, where: dict[str, str], rule: Rule | None) -> None:
        server, fault = self.server, rule.fault if rule else ""
        entry: Json = {"op": request.op, "method": request.method, "target": request.target, "fault": fault}
        server.log.append(entry)
        if fault == "reset":
            self._reset()
            return
        answer = server.perform(request, where, rule)
        entry["status"] = answer.status
        server.bytes["out"] += len(answer.body)
        if fault == "cut":
            self._reset()
        elif fault == "truncate":
            self._send(answer, whole=False)
            self.transport.close()
        else:
            self._send(answer)

    def _send(self, answer: Answer, *, whole: bool = True) -> None:
        reason = REASONS.get(answer.status, "Refused")
        lines = [f"HTTP/1.1 {answer.status} {reason}", f"Date: {formatdate(usegmt=True)}"]
        lines += [f"{key}: {value}" for key, value in answer.headers.items()]
        if answer.status not in (204, 304):
            lines.append(f"Content-Length: {len(answer.body)}")
        head = ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1", "replace")
        body = answer.body if whole else answer.body[: len(answer.body) // 2]
        if len(body) < QUANTUM:
            self.transport.write(head + body)
        else:
            self.transport.write(head)
            self.transport.write(body)

    def _reset(self) -> None:
        """Close so that the client sees a reset, not an orderly end."""
        sock = self.transport.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.transport.abort()


def error(status: int, message: str, **headers: str) -> Answer:
    reason = {"error": {"code": status, "message": message, "errors": [{"message": message, "domain": "global"}]}}
    return Answer.json(reason, status, **headers)


def _parse_multipart(content_type: str, body: bytes) -> tuple[Json, bytes, str]:
    """Return metadata, data and the data's content type. Lines end with CRLF or, from gsutil and gcloud, bare LF."""
    found = re.search(r"""boundary=(?:"([^"]+)"|'([^']+)'|([^;\s]+))""", content_type)  # gcloud writes apostrophes
    if not found:
        raise Refused(400, "multipart without a boundary")
    mark = b"--" + (found[1] or found[2] or found[3]).encode()
    start = body.find(mark)
    after = start + len(mark)
    newline = b"\r\n" if body[after : after + 2] == b"\r\n" else b"\n"
    middle = body.find(newline + mark, start + len(mark))
    end = body.rfind(newline + mark + b"--")
    if start < 0 or middle < 0 or end <= middle:
        raise Refused(400, "multipart with missing parts")
    _, _, meta = body[start + len(mark) : middle].partition(newline * 2)
    blank = body.find(newline * 2, middle)
    head, data = body[middle:blank], body[blank + 2 * len(newline) : end]
    kind = re.search(rb"(?im)^content-type:\s*([^\r\n]+)", head)
    return json.loads(meta or b"{}"), data, kind[1].decode().strip() if kind else ""


def _chunked(buffer: bytearray) -> tuple[bytes, int] | None:
    body, at = bytearray(), 0
    while True:
        line = buffer.find(b"\r\n", at)
        if line < 0:
            return None
        size = int(bytes(buffer[at:line]).split(b";")[0], 16)
        at = line + 2 + size + 2
        if len(buffer) < at:
            return None
        if size == 0:
            return bytes(body), at
        body += buffer[line + 2 : line + 2 + size]


def _given_hashes(headers: dict[str, str]) -> Json:
    """Read X-Goog-Hash and Content-MD5 of a request as metadata fields."""
    found: Json = {}
    for part in headers.get("x-goog-hash", "").split(","):
        kind, _, value = part.strip().partition("=")
        if kind in ("crc32c", "md5"):
            found["crc32c" if kind == "crc32c" else "md5Hash"] = value
    return found


def _parse_fields(text: str) -> Json:
    """Read a partial-response selector, `a,b(c,d),e/f`, as a tree."""
    tree: Json = {}
    for part in re.findall(r"[^,()]+(?:\((?:[^()]|\([^()]*\))*\))?", text.replace(" ", "")):
        name, _, rest = part.partition("(") if "/" not in part.partition("(")[0] else part.partition("/")
        inner = rest.removesuffix(")") if part.startswith(name + "(") else rest
        tree.setdefault(name, {}).update(_parse_fields(inner))
    return tree


def _only(value: Any, tree: Json) -> Any:
    if isinstance(value, list):
        return [_only(item, tree) for item in value]
    if not tree or "*" in tree or not isinstance(value, dict):
        return value
    return {key: _only(value[key], branch) for key, branch in tree.items() if key in value}


def _merge(old: Json, changes: Json) -> Json:
    """Apply a JSON merge patch (RFC 7386)."""
    new = dict(old)
    for key, value in changes.items():
        if value is None:
            new.pop(key, None)
        elif isinstance(value, dict) and isinstance(new.get(key), dict):
            new[key] = _merge(new[key], value)
        else:
            new[key] = value
    return new


def _bucket_json(bucket: Bucket) -> Json:
    return {"kind": "storage#bucket", "id": bucket.name, "name": bucket.name, "location": "US", **bucket.meta}


def _flip(data: bytes) -> bytes:
    at = len(data) // 2
    return data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :] if data else data


def _time(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def _b64(raw: bytes) -> str:
    return base64.b64encode(raw).decode()


async def serve(arguments: argparse.Namespace) -> None:
    storage = Storage(arguments.dir, md5=not arguments.no_md5)
    for name in arguments.bucket:
        if name not in storage.buckets:
            storage.create(name, {})
    server = Server(storage, arguments.latency)
    loop = asyncio.get_running_loop()
    listening = await loop.create_server(lambda: Connection(server), "127.0.0.1", arguments.port, backlog=1024)
    print(f"http://127.0.0.1:{listening.sockets[0].getsockname()[1]}", flush=True)  # noqa: T201
    if arguments.follow:
        await loop.run_in_executor(None, sys.stdin.read)
        return
    await listening.serve_forever()


def main() -> None:
    parser = argparse.ArgumentParser(description="A Google Cloud Storage server for tests.")
    parser.add_argument("--port", type=int, default=0, help="0 = any free one")
    parser.add_argument("--dir", type=Path, help="keep objects there; default: in memory")
    parser.add_argument("--latency", type=float, default=0.0, help="seconds added to every request")
    parser.add_argument("--no-md5", action="store_true", help="compute none: faster, for benchmarks")
    parser.add_argument("--bucket", action="append", default=[], help="create this bucket; may be repeated")
    parser.add_argument("--follow", action="store_true", help="end when stdin closes, i.e. with its starter")
    asyncio.run(serve(parser.parse_args()))


if __name__ == "__main__":
    main()
