"""Cloud KMS as its reference describes it: a server of ours that checks the request, never the real one."""

from __future__ import annotations

import base64
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer

import google_crc32c
import pytest
import requests
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from imagetiers.errors import StoreError
from imagetiers.signing.signers import KmsSigner

VERSION = "projects/p/locations/europe-west1/keyRings/r/cryptoKeys/k/cryptoKeyVersions/1"
KEY = Ed25519PrivateKey.generate()
PEM = KEY.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)


class Kms(BaseHTTPRequestHandler):
    fault = ""
    asked = 0

    def do_GET(self) -> None:
        algorithm = "RSA_SIGN_PKCS1_2048_SHA256" if self.fault == "algorithm" else "EC_SIGN_ED25519"
        good = self.path == f"/v1/{VERSION}/publicKey" and self._known()
        self._answer(200 if good else 403, {"pem": PEM.decode(), "algorithm": algorithm, "name": VERSION})

    def do_POST(self) -> None:
        type(self).asked += 1
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        data = base64.b64decode(body["data"], validate=True)
        whole = body.keys() == {"data", "dataCrc32c"} and body["dataCrc32c"] == str(google_crc32c.value(data))
        if self.path != f"/v1/{VERSION}:asymmetricSign" or not self._known() or not whole:
            self._answer(400, {})
        elif self.fault == "html":
            self._answer(200, "<html>")
        elif (self.fault == "once" and self.asked == 1) or self.fault == "down":
            self._answer(503, {})
        else:
            signature = KEY.sign(data)
            answer = {
                "signature": base64.b64encode(signature[:-1] if self.fault == "short" else signature).decode(),
                "signatureCrc32c": str(google_crc32c.value(signature) ^ (self.fault == "checksum")),
                "verifiedDataCrc32c": self.fault != "unverified",
                "name": "another" if self.fault == "name" else VERSION,
            }
            self._answer(200, answer)

    def _known(self) -> bool:
        return self.headers["Authorization"] == "Bearer token"

    def _answer(self, status: int, body: object) -> None:
        data = (body if isinstance(body, str) else json.dumps(body)).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def kms(monkeypatch: pytest.MonkeyPatch) -> Iterator[KmsSigner]:
    monkeypatch.setattr(Kms, "fault", "")
    monkeypatch.setattr(Kms, "asked", 0)
    with HTTPServer(("127.0.0.1", 0), Kms) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        session = requests.Session()
        session.trust_env = False
        session.headers["Authorization"] = "Bearer token"
        yield KmsSigner(VERSION, lambda: session, f"http://127.0.0.1:{server.server_port}/v1")
        session.close()
        server.shutdown()
        thread.join()


@pytest.mark.parametrize("fault", ["", "once"])
def test_it_signs(kms: KmsSigner, monkeypatch: pytest.MonkeyPatch, fault: str) -> None:
    monkeypatch.setattr(Kms, "fault", fault)

    KEY.public_key().verify(kms.sign(b"message"), b"message")
    assert kms.public() == base64.b64encode(KEY.public_key().public_bytes_raw()).decode()


@pytest.mark.parametrize("fault", ["html", "down", "short", "checksum", "unverified", "name"])
def test_what_it_must_not_take_is_said(kms: KmsSigner, monkeypatch: pytest.MonkeyPatch, fault: str) -> None:
    monkeypatch.setattr(Kms, "fault", fault)

    with pytest.raises(StoreError, match="gcpkms://projects/p/"):
        kms.sign(b"message")


def test_a_key_of_another_algorithm_is_refused(kms: KmsSigner, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Kms, "fault", "algorithm")

    with pytest.raises(StoreError, match="EC_SIGN_ED25519"):
        kms.public()
