"""The distribution API's requests, one try each; what an HTTP status or an exception means; who we say that we are."""

from __future__ import annotations

import base64
import hashlib
import re
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, urljoin, urlsplit

import docker.auth
import docker.errors
import requests
from requests.adapters import HTTPAdapter

from imagetiers.documents import parse_object
from imagetiers.errors import Problem, RegistryError
from imagetiers.retry import RetryDecision, RetryPolicy

__all__ = ["INDEX", "NO_ANSWER", "Manifest", "Name", "RegistryHttp", "judge", "split"]

INDEX = "application/vnd.oci.image.index.v1+json"
_ACCEPT = (
    "application/vnd.docker.distribution.manifest.v2+json, application/vnd.oci.image.manifest.v1+json, "
    f"application/vnd.docker.distribution.manifest.list.v2+json, {INDEX}"
)
_BYTES = "application/octet-stream"
_MAX_BODY = 8 << 20  # a manifest or a configuration is kilobytes
_MAX_PAGES = 100
_CHUNK = 1 << 20
_LONG = (5.0, 300.0)  # to connect and to answer: a registry may move gigabytes before it says that it has them
_LATER = {requests.codes.request_timeout, requests.codes.too_many_requests}
_TORN = "DIGEST_INVALID"  # bytes hurt on their way, or distribution read a link that another push was just writing
_HUB = "registry-1.docker.io"
_ABSENT = {"MANIFEST_UNKNOWN", "NAME_UNKNOWN", "BLOB_UNKNOWN", "NOT_FOUND", "MANIFEST_BLOB_UNKNOWN"}
NO_ANSWER = "nothing is rebuilt and nothing is pushed on a guess; try again when it answers"
_LOG_IN = "docker login, or the credential helper of your cloud (gcloud auth configure-docker)"


@dataclass(frozen=True, slots=True)
class Name:
    """A reference taken apart: `host` as people write it, `reference` a tag or a digest."""

    host: str
    repository: str
    reference: str

    @property
    def url(self) -> str:
        """Where the repository's API is. A registry on this machine talks HTTP, as for Docker itself."""
        host = _HUB if self.host == "docker.io" else self.host
        local = re.fullmatch(r"(localhost|127\.[0-9.]+)(:[0-9]+)?", host)
        return f"{'http' if local else 'https'}://{host}/v2/{self.repository}/"


def split(ref: str) -> Name:
    """Take a reference apart as Docker does: without a host it is Docker Hub's, without a slash an official image."""
    first, slash, rest = ref.partition("/")
    if slash and (set(first) & {".", ":"} or first == "localhost"):
        host, path = first, rest
    else:
        host, path = "docker.io", ref
    path, at, digest = path.partition("@")
    name, colon, tag = path.rpartition(":")
    repository = name if colon else path
    if host == "docker.io" and "/" not in repository:
        repository = f"library/{repository}"
    return Name(host, repository, digest if at else tag if colon else "latest")


@dataclass(frozen=True, slots=True)
class Manifest:
    """A manifest as it was sent: the digest is of these very bytes."""

    digest: str
    kind: str
    body: bytes


class HttpError(Exception):
    """An answer that is neither what was asked for nor 'not there'."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(status, text)
        self.status = status
        self.text = text


class DamagedError(Exception):
    """An answer that does not match its own checksum, or is no answer of a registry."""


class RegistryHttp:
    """One try of each request, from any thread."""

    def __init__(self, policy: RetryPolicy, threads: int) -> None:
        self._timeout = (policy.connect, policy.answer)
        self._session = requests.Session()
        for scheme in ("http://", "https://"):
            self._session.mount(scheme, HTTPAdapter(pool_connections=threads, pool_maxsize=threads))
        self._session.auth = _as_it_is
        self._lock = threading.Lock()
        self._headers: dict[tuple[str, str], str] = {}  # (host, scope) -> what Authorization is answered with
        self._auth: docker.auth.AuthConfig | None = None

    def close(self) -> None:
        """Close the connections."""
        self._session.close()

    def manifest(self, ref: str) -> Manifest | None:
        """Return the manifest of a tag or digest, or None when there is none."""
        name = split(ref)
        answer = self._ask(name, "GET", f"manifests/{name.reference}", headers={"Accept": _ACCEPT})
        if answer is None:
            return None
        body = answer.content
        digest = f"sha256:{hashlib.sha256(body).hexdigest()}"
        named = answer.headers.get("Docker-Content-Digest", digest)
        asked = name.reference if name.reference.startswith("sha256:") else digest
        if parse_object(body) is None:
            raise DamagedError("what came back is no manifest")
        if digest != named or digest != asked:
            raise DamagedError(f"what came back is {digest[:19]}, not the {named[:19]} that it is called")
        return Manifest(digest, answer.headers.get("Content-Type", ""), body)

    def put_manifest(self, ref: str, manifest: Manifest) -> bool:
        """Store a manifest under a tag, or its digest. Say whether the registry lists it with the image that is its subject."""
        name = split(ref)
        headers = {"Content-Type": manifest.kind}
        answer = self._ask(name, "PUT", f"manifests/{name.reference}", headers=headers, data=manifest.body)
        if answer is None:
            raise HttpError(404, "the registry does not know what the manifest refers to")
        return "OCI-Subject" in answer.headers

    def referrers(self, ref: str) -> list[Manifest] | None:
        """Return the pages of what refers to `repository@digest`; None from a registry that keeps no such lists."""
        name = split(ref)
        path, pages = f"referrers/{name.reference}", list[Manifest]()
        while path and len(pages) < _MAX_PAGES:
            try:
                answer = self._ask(name, "GET", path, headers={"Accept": INDEX})
            except HttpError as error:
                if error.status != requests.codes.not_found:
                    raise
                return None
            if answer is None or parse_object(answer.content) is None:
                return None
            pages.append(Manifest("", answer.headers.get("Content-Type", ""), answer.content))
            path = answer.links.get("next", {}).get("url", "")
        return pages

    def put_blob(self, repository: str, data: bytes) -> str:
        """Store a small blob that may be there already; return its digest."""
        digest = f"sha256:{hashlib.sha256(data).hexdigest()}"
        name = split(f"{repository}@{digest}")
        if self._ask(name, "HEAD", f"blobs/{digest}") is None:
            upload = self._begin(name, "")
            assert upload is not None  # noqa: S101  only a mount needs none
            more: dict[str, Any] = {"headers": {"Content-Type": _BYTES}, "data": data, "timeout": _LONG}
            if self._ask(name, "PUT", _ended(upload, digest), **more) is None:
                raise HttpError(404, "the registry has forgotten the upload")
        return digest

    def blob(self, repository: str, digest: str) -> bytes | None:
        """Return a small blob."""
        answer = self._ask(split(f"{repository}@{digest}"), "GET", f"blobs/{digest}")
        return None if answer is None else answer.content

    def stream_blob(self, repository: str, digest: str, size: int) -> Iterator[bytes]:
        """Yield a blob of so many bytes in pieces. Raises DamagedError, at its end at the latest, if it is another one."""
        name = split(f"{repository}@{digest}")
        answer = self._ask(name, "GET", f"blobs/{digest}", headers={"Accept-Encoding": "identity"}, read=False)
        if answer is None:
            raise DamagedError(f"{repository} does not have what its manifest refers to")
        found, length = hashlib.sha256(), 0
        with answer:
            for piece in answer.iter_content(_CHUNK):
                length += len(piece)
                if length > size:
                    raise DamagedError(f"{digest[:19]} is longer than its manifest says")
                found.update(piece)
                yield piece
        if f"sha256:{found.hexdigest()}" != digest:
            raise DamagedError(f"what came back is not {digest[:19]}")

    def copy_blob(self, source: str, ref: str, size: int) -> None:
        """Let a repository have a blob `ref` (`repository@digest`) of another one.

        A registry that can mounts it. Otherwise its bytes pass through here, as many as `size`, and none are kept.
        """
        name, origin = split(ref), split(f"{source}:latest")
        also = origin.repository if origin.host == name.host else ""
        if self._ask(name, "HEAD", f"blobs/{name.reference}") is not None:
            return
        upload = self._begin(name, also)
        if upload is None:
            return
        blob = self._ask(origin, "GET", f"blobs/{name.reference}", headers={"Accept-Encoding": "identity"}, read=False)
        if blob is None:
            raise DamagedError(f"{source} does not have what its manifest refers to")
        with blob:
            more = {"headers": {"Content-Type": _BYTES}, "data": _Passing(blob, size), "timeout": _LONG}
            if self._ask(name, "PUT", _ended(upload, name.reference), also=also, **more) is None:
                raise HttpError(404, "the registry has forgotten the upload")

    def _begin(self, name: Name, also: str) -> str | None:
        """Begin an upload and return where to; None when the blob was mounted from `also` instead."""
        asked = [f"?mount={name.reference}&from={quote(also)}"] if also else []
        for query in (*asked, ""):
            try:
                answer = self._ask(name, "POST", f"blobs/uploads/{query}", also=also)
            except HttpError as error:
                if not query or error.status >= requests.codes.server_error or error.status in _LATER:
                    raise
                continue  # some refuse a mount that they should answer with an upload
            if answer is not None and answer.status_code == requests.codes.created and query:
                return None
            if answer is not None and "Location" in answer.headers:
                return answer.headers["Location"]
        raise HttpError(404, "the registry begins no upload")

    def tags(self, repository: str) -> tuple[str, ...]:
        """Return all tags of a repository, page by page."""
        name = split(f"{repository}:latest")
        found: list[str] = []
        path = "tags/list?n=1000"
        for _ in range(_MAX_PAGES):
            answer = self._ask(name, "GET", path)
            if answer is None:
                break
            page = (parse_object(answer.content) or {}).get("tags") or []
            if not isinstance(page, list) or not all(isinstance(tag, str) for tag in page):
                raise DamagedError("what came back is no list of tags")
            found += page
            link = answer.links.get("next", {}).get("url")
            if not link:
                break
            path = link
        return tuple(found)

    def _ask(self, name: Name, method: str, path: str, *, also: str = "", **more: Any) -> requests.Response | None:
        """Send a request as who we are; None is "not there". `also` is a repository that is read in doing so.

        With `read=False` the caller reads a good answer, and closes it.
        """
        scope = f"repository:{name.repository}:{'pull' if method in {'GET', 'HEAD'} else 'pull,push'}"
        scope += f" repository:{also}:pull" if also else ""
        headers = {"User-Agent": "imagetiers", **more.pop("headers", {})}
        answer = self._send(name, method, path, headers, scope, **more)
        if answer.status_code == requests.codes.unauthorized:
            challenge = answer.headers.get("WWW-Authenticate", "")
            with self._lock:
                self._headers.pop((name.host, scope), None)
            header = self._authorization(name.host, scope, challenge)
            if header:
                with self._lock:
                    self._headers[name.host, scope] = header
                answer = self._send(name, method, path, headers, scope, **more)
        if answer.ok:
            return answer
        if answer.status_code == requests.codes.not_found and (method == "HEAD" or _codes(answer) & _ABSENT):
            return None
        raise HttpError(answer.status_code, _text(answer))

    def _send(
        self,
        name: Name,
        method: str,
        path: str,
        headers: dict[str, str],
        scope: str,
        *,
        read: bool = True,
        **more: Any,
    ) -> requests.Response:
        with self._lock:
            known = self._headers.get((name.host, scope))
        if known:
            headers = {**headers, "Authorization": known}
        url = urljoin(name.url, path)
        if urlsplit(url).netloc != urlsplit(name.url).netloc:
            raise DamagedError("what comes next is said to be at another host")
        more.setdefault("timeout", self._timeout)
        answer = self._session.request(method, url, headers=headers, stream=True, **more)
        return self._bounded(answer) if read or not answer.ok else answer

    def _bounded(self, answer: requests.Response) -> requests.Response:
        with answer:
            body = b""
            for chunk in answer.iter_content(1 << 16):
                body += chunk
                if len(body) > _MAX_BODY:
                    raise DamagedError(f"the answer is longer than {_MAX_BODY:,} bytes")
        answer._content = body  # noqa: SLF001  what `content` would have read, but bounded
        return answer

    def _authorization(self, host: str, scope: str, challenge: str) -> str:
        """Return the header that answers a 401, from what `docker login` or a credential helper keeps; or nothing."""
        kind, _, rest = challenge.partition(" ")
        fields = dict(re.findall(r'(\w+)="([^"]*)"', rest))
        user, password, identity = self._credentials(host)
        basic = f"Basic {base64.b64encode(f'{user}:{password}'.encode()).decode()}" if user else ""
        if kind.lower() != "bearer" or "realm" not in fields:
            return basic
        if urlsplit(fields["realm"]).scheme != "https" and Name(host, "", "").url.startswith("https"):
            raise DamagedError("it wants our password without TLS")
        scopes = fields.get("scope", scope)
        if identity:
            form = {"grant_type": "refresh_token", "refresh_token": identity, "client_id": "imagetiers"}
            form |= {"service": fields.get("service", ""), "scope": scopes}
            answer = self._session.post(fields["realm"], data=form, timeout=self._timeout, stream=True)
        else:
            query = {"service": fields.get("service", ""), "scope": scopes.split()}
            headers = {"Authorization": basic} if basic else {}
            answer = self._session.get(
                fields["realm"], params=query, headers=headers, timeout=self._timeout, stream=True
            )
        self._bounded(answer)
        if not answer.ok:
            raise HttpError(answer.status_code, f"no token from {urlsplit(fields['realm']).netloc}: {_text(answer)}")
        document = parse_object(answer.content) or {}
        token = document.get("token") or document.get("access_token") or ""
        if not isinstance(token, str) or not token.isascii() or not token.isprintable():
            raise DamagedError(f"what came from {urlsplit(fields['realm']).netloc} is no token")
        return f"Bearer {token}"

    def _credentials(self, host: str) -> tuple[str, str, str]:
        with self._lock:
            if self._auth is None:
                self._auth = docker.auth.load_config()
            found = self._auth.resolve_authconfig(host) or {}
        # The docker SDK writes these keys in lower case from config.json, and capitalised from a credential helper.
        known = {key.lower(): str(value) for key, value in found.items() if value}
        return known.get("username", ""), known.get("password", ""), known.get("identitytoken", "")


def _ended(upload: str, digest: str) -> str:
    """Return where the bytes of an upload go that is one request."""
    return f"{upload}{'&' if urlsplit(upload).query else '?'}digest={digest}"


class _Passing:
    """The body of an answer as the body of a request, of a length that is known before."""

    def __init__(self, answer: requests.Response, size: int) -> None:
        self._answer = answer
        self._size = size

    def __len__(self) -> int:
        return self._size

    def __iter__(self) -> Iterator[bytes]:
        passed = 0
        for chunk in self._answer.raw.stream(_CHUNK, decode_content=False):
            passed += len(chunk)
            yield chunk
        if passed != self._size:
            raise DamagedError(f"what came is {passed:,} bytes long and not {self._size:,}")


def _as_it_is(request: requests.PreparedRequest) -> requests.PreparedRequest:
    """Keep requests from putting the password of ~/.netrc in the place of our Authorization header."""
    return request


def judge(ref: str, error: Exception) -> RetryDecision:  # noqa: PLR0911  one return a kind
    """Say what an exception means, and how many tries it is worth."""
    if isinstance(error, HttpError):
        return _judge_status(ref, error)
    if isinstance(error, requests.exceptions.SSLError):
        return RetryDecision(RegistryError(Problem(ref, f"no TLS with the registry: {_short(error)}", NO_ANSWER)))
    if isinstance(error, requests.exceptions.Timeout):
        return RetryDecision(RegistryError(Problem(ref, "the registry did not answer in time", NO_ANSWER)), None)
    if isinstance(error, requests.exceptions.RequestException):
        return RetryDecision(
            RegistryError(Problem(ref, f"no answer from the registry: {_short(error)}", NO_ANSWER)), None
        )
    if isinstance(error, DamagedError):
        return RetryDecision(RegistryError(Problem(ref, f"the registry's answer is damaged: {error}", NO_ANSWER)), 3)
    if isinstance(error, docker.errors.DockerException):
        return RetryDecision(RegistryError(Problem(ref, f"the credential helper failed: {_short(error)}", _LOG_IN)))
    return RetryDecision(RegistryError(Problem(ref, f"{type(error).__name__}: {_short(error)}")))


def _judge_status(ref: str, error: HttpError) -> RetryDecision:
    what = f"the registry answers {error.status} ({error.text})"
    if error.status in {requests.codes.unauthorized, requests.codes.forbidden}:
        return RetryDecision(RegistryError(Problem(ref, what, _LOG_IN)))
    if error.status == requests.codes.too_many_requests:
        return RetryDecision(RegistryError(Problem(ref, what, NO_ANSWER)), None, throttled=True)
    if error.status == requests.codes.bad_request and error.text.startswith(_TORN):
        return RetryDecision(RegistryError(Problem(ref, what, NO_ANSWER)), 4)
    if error.status >= requests.codes.server_error or error.status == requests.codes.request_timeout:
        return RetryDecision(RegistryError(Problem(ref, what, NO_ANSWER)), None)
    return RetryDecision(RegistryError(Problem(ref, what)))


def _short(error: Exception) -> str:
    return " ".join(str(error).split())[:160]


def _codes(answer: requests.Response) -> set[str]:
    try:
        return {str(error.get("code", "")) for error in (parse_object(answer.content) or {})["errors"]}
    except (KeyError, TypeError, AttributeError):
        return set()


def _text(answer: requests.Response) -> str:
    try:
        first = (parse_object(answer.content) or {})["errors"][0]
        return " ".join(str(first.get(key, "")) for key in ("code", "message"))[:160].strip()
    except (KeyError, TypeError, IndexError, AttributeError):
        return answer.reason or "no reason given"
