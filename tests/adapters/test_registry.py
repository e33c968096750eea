"""The registry's client: three answers, retries, credentials, and what it makes of servers that lie."""

from __future__ import annotations

import base64
import hashlib
import json
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from imagetiers.adapters.registry import HttpRegistry
from imagetiers.adapters.registry_http import Name, split
from imagetiers.errors import RegistryError
from imagetiers.planning.observed import Absent, ImageInfo, Present, Unknown
from tests.registry.harness import QUICK, digest_of, upload
from tests.registry.server import RegistryServer

CONFIG = b'{"created": "2026-11-21T10:00:00.5Z", "config": {"Labels": {"dev.imagetiers.key": "k"}}}'
LAYERS = [{"digest": digest_of(b"a" * size), "size": size} for size in (3, 4)]
MANIFEST = json.dumps({"config": {"digest": digest_of(CONFIG), "size": len(CONFIG)}, "layers": LAYERS}).encode()
GOOD = Present(digest_of(MANIFEST), digest_of(CONFIG), 7)
Answer = tuple[int, dict[str, str], bytes]
UNKNOWN_MANIFEST = b'{"errors": [{"code": "MANIFEST_UNKNOWN", "message": "manifest unknown"}]}'


class Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 64


class FakeRegistry:
    """Answers each request with the next of `answers`, the last one for ever; remembers what it was asked."""

    def __init__(self) -> None:
        self.answers: list[Answer | Callable[[BaseHTTPRequestHandler], Answer]] = []
        self.asked: list[tuple[str, str, str]] = []
        fake = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                answers = fake.answers  # before the body, of which an upload that broke off sends no more
                fake.asked.append((self.command, self.path, self.headers.get("Authorization", "")))
                length = int(self.headers.get("Content-Length", 0))
                self.body = self.rfile.read(length)
                answer = answers.pop(0) if len(answers) > 1 else answers[0]
                status, headers, body = answer(self) if callable(answer) else answer
                self.send_response(status)
                for name, value in headers.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                if self.command != "HEAD":
                    self.wfile.write(body)

            do_PUT = do_POST = do_HEAD = do_GET  # noqa: N815  http.server's names

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002
                pass

        self.server = Server(("127.0.0.1", 0), Handler)
        self.host = f"127.0.0.1:{self.server.server_address[1]}"
        self.thread = threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        self.thread.start()

    def ref(self, tag: str = "tag") -> str:
        return f"{self.host}/name/tier:{tag}"


@pytest.fixture
def fake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeRegistry]:
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))  # nobody's `docker login`
    server = FakeRegistry()
    yield server
    server.server.shutdown()
    server.server.server_close()


def ask(fake: FakeRegistry) -> object:
    return HttpRegistry(QUICK).look_up([fake.ref()])[fake.ref()]


def error(status: int, code: str = "UNKNOWN") -> Answer:
    return status, {}, json.dumps({"errors": [{"code": code, "message": "so it is"}]}).encode()


def test_present_and_absent(fake: FakeRegistry) -> None:
    fake.answers = [(200, {"Docker-Content-Digest": GOOD.digest}, MANIFEST)]
    assert ask(fake) == GOOD

    for code in ("MANIFEST_UNKNOWN", "NAME_UNKNOWN"):
        fake.answers = [error(404, code)]
        assert ask(fake) == Absent()


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (error(401, "UNAUTHORIZED"), "401 (UNAUTHORIZED so it is)"),
        (error(403, "DENIED"), "403 (DENIED so it is)"),
        (error(500), "500 (UNKNOWN so it is) (tried"),
        (error(503), "503"),
        (error(429, "TOOMANYREQUESTS"), "429"),
        (error(400), "400"),
        ((404, {"Content-Type": "text/html"}, b"<h1>Not found</h1>"), "404 (Not Found)"),
        ((200, {}, b"<h1>Please log in to the wireless network</h1>"), "what came back is no manifest"),
        ((200, {"Docker-Content-Digest": "sha256:" + "0" * 64}, MANIFEST), "the registry's answer is damaged"),
        ((301, {"Location": "http://127.0.0.1:9/"}, b""), "no answer from the registry"),
        ((200, {}, b"[" * 100_000), ""),
        ((200, {}, b"x" * (9 << 20)), "longer than"),
    ],
)
def test_everything_else_is_unknown(fake: FakeRegistry, answer: Answer, words: str) -> None:
    fake.answers = [answer]
    told = ask(fake)

    assert isinstance(told, Unknown)
    assert words in told.reason


def test_a_server_that_says_nothing_is_unknown(fake: FakeRegistry) -> None:
    def sleep(_: object) -> Answer:
        time.sleep(1.5)
        return 200, {}, MANIFEST

    fake.answers = [sleep]
    told = ask(fake)

    assert isinstance(told, Unknown)
    assert "did not answer in time" in told.reason


def test_a_moment_of_trouble_is_sat_out(fake: FakeRegistry) -> None:
    fake.answers = [error(503), error(500), error(429), (200, {}, MANIFEST[:-5]), (200, {}, MANIFEST)]

    assert ask(fake) == GOOD


def test_a_link_that_another_push_was_writing_is_read_again(fake: FakeRegistry) -> None:
    fake.answers = [error(400, "DIGEST_INVALID"), error(400, "DIGEST_INVALID"), (200, {}, MANIFEST)]

    assert ask(fake) == GOOD


def test_a_host_that_is_down_is_waited_for_once(fake: FakeRegistry) -> None:
    registry = HttpRegistry(QUICK)
    fake.answers = [error(503)]
    registry.look_up([fake.ref()])
    began, before = time.monotonic(), len(fake.asked)

    told = registry.look_up([fake.ref(str(n)) for n in range(50)])

    assert all(isinstance(answer, Unknown) for answer in told.values())
    assert time.monotonic() - began < 0.5
    assert len(fake.asked) == before


def test_all_at_once(fake: FakeRegistry) -> None:
    def slow(_: object) -> Answer:
        time.sleep(0.1)
        return 200, {}, MANIFEST

    fake.answers = [slow]
    began = time.monotonic()
    told = HttpRegistry(QUICK).look_up([fake.ref(str(n)) for n in range(32)])

    assert set(told.values()) == {GOOD}
    assert time.monotonic() - began < 1.6, "one after the other it would be 3.2 s"


def test_log_in_with_what_docker_login_keeps(fake: FakeRegistry, tmp_path: Path) -> None:
    basic = base64.b64encode(b"me:secret").decode()
    (tmp_path / "config.json").write_text(json.dumps({"auths": {fake.host: {"auth": basic}}}))
    fake.answers = [(401, {"WWW-Authenticate": 'Basic realm="x"'}, b"{}"), (200, {}, MANIFEST)]
    registry = HttpRegistry(QUICK)

    assert registry.look_up([fake.ref()])[fake.ref()] == GOOD
    assert [authorization for _, _, authorization in fake.asked] == ["", f"Basic {basic}"]
    registry.look_up([fake.ref()])
    assert fake.asked[-1][2] == f"Basic {basic}", "the second time nobody has to ask"


def test_log_in_for_a_token(fake: FakeRegistry, tmp_path: Path) -> None:
    basic = base64.b64encode(b"me:secret").decode()
    (tmp_path / "config.json").write_text(json.dumps({"auths": {fake.host: {"auth": basic}}}))
    realm = f"http://{fake.host}/token"
    challenge = f'Bearer realm="{realm}",service="registry",scope="repository:name/tier:pull"'
    fake.answers = [
        (401, {"WWW-Authenticate": challenge}, b"{}"),
        (200, {}, b'{"token": "t0k3n"}'),
        (200, {}, MANIFEST),
    ]

    assert ask(fake) == GOOD
    assert fake.asked[1][1].startswith("/token?service=registry&scope=repository%3Aname%2Ftier%3Apull")
    assert [authorization for _, _, authorization in fake.asked] == ["", f"Basic {basic}", "Bearer t0k3n"]

    fake.answers = [(401, {"WWW-Authenticate": challenge}, b"{}"), error(403, "DENIED")]
    told = ask(fake)
    assert isinstance(told, Unknown)
    assert "no token from" in told.reason


def test_an_identity_token_is_exchanged(fake: FakeRegistry, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"auths": {fake.host: {"identitytoken": "long-lived"}}}))
    challenge = f'Bearer realm="http://{fake.host}/token",service="registry"'
    fake.answers = [
        (401, {"WWW-Authenticate": challenge}, b"{}"),
        (200, {}, b'{"access_token": "short-lived"}'),
        (200, {}, MANIFEST),
    ]

    assert ask(fake) == GOOD
    assert [method for method, _, _ in fake.asked] == ["GET", "POST", "GET"]
    assert fake.asked[-1][2] == "Bearer short-lived"


def test_a_credential_helper_is_asked_and_its_failure_told(
    fake: FakeRegistry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"credHelpers": {fake.host: "test"}}))
    helper = tmp_path / "docker-credential-test"
    helper.write_text('#!/bin/sh\necho \'{"Username": "me", "Secret": "from-the-helper"}\'\n')
    helper.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    fake.answers = [(401, {"WWW-Authenticate": 'Basic realm="x"'}, b"{}"), (200, {}, MANIFEST)]
    assert ask(fake) == GOOD
    assert base64.b64decode(fake.asked[-1][2].partition(" ")[2]) == b"me:from-the-helper"

    helper.write_text("#!/bin/sh\necho broken >&2; exit 1\n")
    fake.answers = [(401, {"WWW-Authenticate": 'Basic realm="x"'}, b"{}")]
    told = ask(fake)
    assert isinstance(told, Unknown)
    assert "the credential helper failed" in told.reason
    assert "from-the-helper" not in told.reason


def test_labels(fake: FakeRegistry) -> None:
    fake.answers = [(200, {}, CONFIG)]
    info = HttpRegistry(QUICK).describe({fake.ref(): GOOD})[fake.ref()]
    assert isinstance(info, ImageInfo)
    assert (info.key, info.created, info.size) == ("k", 1795255200, 7)

    fake.answers = [(200, {}, b"{}")]
    wrong = HttpRegistry(QUICK).describe({fake.ref(): GOOD})[fake.ref()]
    assert wrong == Unknown(f"{fake.ref()}: its configuration is not the one that its manifest names")
    assert HttpRegistry(QUICK).describe({fake.ref(): Present("sha256:0")}) == {}


def test_all_tags_page_by_page(fake: FakeRegistry) -> None:
    link = {"Link": '</v2/name/tier/tags/list?n=1000&last=b>; rel="next"'}
    fake.answers = [(200, link, b'{"tags": ["a", "b"]}'), (200, {}, b'{"tags": ["c"]}')]
    assert HttpRegistry(QUICK).tags(f"{fake.host}/name/tier") == ("a", "b", "c")

    fake.answers = [error(404, "NAME_UNKNOWN")]
    assert HttpRegistry(QUICK).tags(f"{fake.host}/name/tier") == ()

    away = {"Link": '<http://elsewhere.example/v2/>; rel="next"'}
    fake.answers = [(200, away, b'{"tags": ["a"]}')]
    assert isinstance(HttpRegistry(QUICK).tags(f"{fake.host}/name/tier"), Unknown)


def test_a_tag_is_moved_and_read_back(registry_server: RegistryServer) -> None:
    registry = HttpRegistry(QUICK)
    repository = f"{registry_server.host}/client/tier"
    one = upload(registry_server.host, "client/tier", "one", CONFIG)
    two = upload(registry_server.host, "client/tier", "two", CONFIG.replace(b'"k"', b'"l"'))

    for digest in (one, two, one):
        registry.set_tag(f"{repository}:moved", digest)
        answer = registry.look_up([f"{repository}:moved"])[f"{repository}:moved"]
        assert isinstance(answer, Present)
        assert answer.digest == digest
    with pytest.raises(RegistryError, match="is not in the registry"):
        registry.set_tag(f"{repository}:moved", "sha256:" + hashlib.sha256(b"").hexdigest())
    tags = registry.tags(repository)
    assert isinstance(tags, tuple)
    assert set(tags) == {"moved", "one", "two"}


def test_those_who_copy_one_image_at_once_all_have_it(registry_server: RegistryServer) -> None:
    """Distribution writes links in place, so some of them read one half written."""
    digest = upload(registry_server.host, "client/tier", "copied", CONFIG)
    source = f"{registry_server.host}/client/tier"

    for number in range(20):
        ref = f"{registry_server.host}/channel-{number}/tier:latest"
        with ThreadPoolExecutor(4) as pool:
            list(pool.map(lambda ref: HttpRegistry().set_tag(ref, digest, source), [ref] * 4))


BLOBS = {digest_of(CONFIG): CONFIG, digest_of(b"x" * 3_000_000): b"x" * 3_000_000}
IMAGE = json.dumps(
    {
        "config": {"digest": digest_of(CONFIG), "size": len(CONFIG)},
        "layers": [{"digest": digest_of(b"x" * 3_000_000), "size": 3_000_000}],
    }
).encode()


class TwoRepositories:
    """name/tier has an image; what channel/tier gets is kept. `mount` answers a request for a mount."""

    def __init__(self, mount: Answer) -> None:
        self.mount = mount
        self.blobs: dict[str, bytes] = {}
        self.manifest = b""
        self.sent = BLOBS

    def __call__(self, request: BaseHTTPRequestHandler) -> Answer:
        path, _, query = request.path.partition("?")
        _, _, rest = path.partition("/tier/")
        here = path.startswith("/v2/channel/")
        if request.command == "PUT":
            body: bytes = request.body  # type: ignore[attr-defined]
            if rest.startswith("manifests/"):
                self.manifest = body
            else:
                assert query == f"state=s&digest={digest_of(body)}"
                self.blobs[digest_of(body)] = body
            return 201, {}, b""
        if request.command == "POST":
            return self.mount if query else (202, {"Location": "/v2/channel/tier/blobs/uploads/1?state=s"}, b"")
        if rest.startswith("manifests/"):
            known = self.manifest if here else IMAGE
            return (200, {}, known) if known else error(404, "MANIFEST_UNKNOWN")
        blob = (self.blobs if here else self.sent).get(rest.partition("/")[2])
        return error(404, "BLOB_UNKNOWN") if blob is None else (200, {}, blob)


def copy(fake: FakeRegistry, mount: Answer) -> TwoRepositories:
    fake.answers = [copied := TwoRepositories(mount)]
    HttpRegistry(QUICK).set_tag(f"{fake.host}/channel/tier:latest", digest_of(IMAGE), f"{fake.host}/name/tier")
    return copied


def test_blobs_are_mounted_where_the_registry_mounts(fake: FakeRegistry) -> None:
    copied = copy(fake, (201, {"Location": "/v2/channel/tier/blobs/x"}, b""))

    assert (copied.manifest, copied.blobs) == (IMAGE, {})
    mounted = {path for method, path, _ in fake.asked if method == "POST"}
    assert mounted == {f"/v2/channel/tier/blobs/uploads/?mount={digest}&from=name/tier" for digest in BLOBS}
    before = len(fake.asked)
    HttpRegistry(QUICK).set_tag(f"{fake.host}/channel/tier:other", digest_of(IMAGE), f"{fake.host}/name/tier")
    assert {method for method, _, _ in fake.asked[before:]} == {"GET", "PUT"}, "it has the image already"


@pytest.mark.parametrize(
    "mount",
    [(202, {"Location": "/v2/channel/tier/blobs/uploads/1?state=s"}, b""), error(404, "BLOB_UNKNOWN"), error(403)],
    ids=["begins an upload", "does not know the blob", "refuses"],
)
def test_blobs_are_sent_where_it_does_not(fake: FakeRegistry, mount: Answer) -> None:
    copied = copy(fake, mount)

    assert (copied.manifest, copied.blobs) == (IMAGE, BLOBS)


def test_what_cannot_be_copied_moves_no_tag(fake: FakeRegistry) -> None:
    mount = 202, {"Location": "/v2/channel/tier/blobs/uploads/1?state=s"}, b""
    for sent, words in (({}, "does not have what its manifest"), (dict.fromkeys(BLOBS, b"short"), "5 bytes long")):
        fake.answers = [copied := TwoRepositories(mount)]
        copied.sent = sent
        with pytest.raises(RegistryError, match=words):
            HttpRegistry(QUICK).set_tag(f"{fake.host}/channel/tier:latest", digest_of(IMAGE), f"{fake.host}/name/tier")
        assert copied.manifest == b""


def test_what_is_no_image_or_leads_elsewhere_is_not_copied(fake: FakeRegistry) -> None:
    fake.answers = [(200, {}, b'{"manifests": []}'), error(404, "MANIFEST_UNKNOWN")]
    with pytest.raises(RegistryError, match="is no image but a list of them"):
        HttpRegistry(QUICK).set_tag(f"{fake.host}/a:x", digest_of(b'{"manifests": []}'), f"{fake.host}/b")

    away = 202, {"Location": "http://elsewhere.example/upload"}, b""
    with pytest.raises(RegistryError, match="said to be at another host"):
        copy(fake, away)


def test_a_mount_asks_for_both_repositories(fake: FakeRegistry) -> None:
    image = TwoRepositories((201, {"Location": "/v2/channel/tier/blobs/x"}, b""))
    both = "repository:channel/tier:pull,push repository:name/tier:pull"

    def guarded(request: BaseHTTPRequestHandler) -> Answer:
        if request.path.startswith("/token"):
            scopes = "".join(request.path.partition("scope=")[2:])
            return 200, {}, json.dumps({"token": scopes}).encode()
        wanted = both.replace(":", "%3A").replace("/", "%2F").replace(",", "%2C").replace(" ", "&scope=")
        if request.command == "POST" and request.headers.get("Authorization") != f"Bearer {wanted}":
            challenge = f'Bearer realm="http://{fake.host}/token",service="registry",scope="{both}"'
            return 401, {"WWW-Authenticate": challenge}, b"{}"
        return image(request)

    fake.answers = [guarded]
    HttpRegistry(QUICK).set_tag(f"{fake.host}/channel/tier:latest", digest_of(IMAGE), f"{fake.host}/name/tier")
    assert image.manifest == IMAGE


@pytest.mark.parametrize(
    ("ref", "name"),
    [
        ("debian:trixie-slim", Name("docker.io", "library/debian", "trixie-slim")),
        ("debian", Name("docker.io", "library/debian", "latest")),
        ("nvidia/cuda:12.4.1", Name("docker.io", "nvidia/cuda", "12.4.1")),
        ("localhost:5000/a/b:c", Name("localhost:5000", "a/b", "c")),
        ("localhost/a", Name("localhost", "a", "latest")),
        ("eu.gcr.io/p/r@sha256:0", Name("eu.gcr.io", "p/r", "sha256:0")),
        ("eu.gcr.io/p/r:tag@sha256:0", Name("eu.gcr.io", "p/r", "sha256:0")),
    ],
)
def test_references(ref: str, name: Name) -> None:
    assert split(ref) == name


def test_where_the_api_is() -> None:
    assert split("debian:x").url == "https://registry-1.docker.io/v2/library/debian/"
    assert split("127.0.0.1:5000/a:x").url == "http://127.0.0.1:5000/v2/a/"
    assert split("localhost.example.com/a:x").url == "https://localhost.example.com/v2/a/"
