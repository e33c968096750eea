"""Credentials are found by form, file and randomness; examples, documentation and code that speaks of them are not."""

from __future__ import annotations

import base64
import random
import string

import pytest

from imagetiers.layers.credentials import find_credentials, secret_variables
from tests.unit.layers.trees import image

RANDOM = random.Random(4711)
WORDS = string.ascii_letters + string.digits


def token(length: int, alphabet: str = WORDS) -> str:
    """Return something random, so that no credential, not even an invented one, stands in this file."""
    return "".join(RANDOM.choice(alphabet) for _ in range(length))


def key(kind: str) -> str:
    body = base64.b64encode(RANDOM.randbytes(300)).decode()
    lines = "\n".join(body[at : at + 64] for at in range(0, len(body), 64))
    return f"-----BEGIN {kind}-----\n{lines}\n-----END {kind}-----\n"


FOUND = {
    "a private key": [
        key("PRIVATE KEY"),
        key("RSA PRIVATE KEY"),
        key("OPENSSH PRIVATE KEY"),
        key("EC PRIVATE KEY").replace("\n", "\\n"),
    ],
    "an access key of AWS": ["AKIA" + token(16, string.ascii_uppercase + "234567")],
    "a token of GitHub": ["ghp_" + token(36), "github_pat_" + token(22) + "_" + token(59)],
    "a token of GitLab": ["glpat-" + token(20)],
    "an API key of Google": ["AIza" + token(35)],
    "an OAuth secret of Google": ["GOCSPX-" + token(28)],
    "a token of Hugging Face": ["hf_" + token(34, string.ascii_letters)],
    "a token of OpenAI": ["sk-" + token(20) + "T3BlbkFJ" + token(20), "sk-proj-" + token(60) + "T3BlbkFJ" + token(60)],
    "a token of Anthropic": ["sk-ant-api03-" + token(93)],
    "a token of npm": ["npm_" + token(36)],
    "a token of PyPI": ["pypi-AgE" + token(80)],
    "a token of Slack": ["xoxb-" + token(12, string.digits) + "-" + token(24)],
    "a key of Stripe": ["sk_live_" + token(24)],
    "a token of Docker Hub": ["dckr_pat_" + token(27)],
}
IN_FILES = {
    "/root/.netrc": "machine api.wandb.ai login user password " + token(40),
    "/root/.git-credentials": f"https://user:{token(20)}@github.com",
    "/src/.git/config": f"[remote]\n url = https://user:{token(20)}@github.com/a/b\n",
    "/etc/pip.conf": f"[global]\nindex-url = https://user:{token(16)}@pypi.example.org/simple\n",
    "/root/.pypirc": f"[pypi]\nusername = u\npassword = {token(16)}\n",
    "/root/.npmrc": f"//registry.example.com/:_authToken={token(32)}\n",
    "/root/.docker/config.json": '{"auths": {"r": {"auth": "' + base64.b64encode(token(20).encode()).decode() + '"}}}',
    "/root/.aws/credentials": f"[default]\naws_secret_access_key = {token(40)}\n",
    "/root/.kube/config": f"users:\n- user:\n    token: {token(60)}\n",
    "/root/application_default_credentials.json": '{"refresh_token": "' + token(60) + '"}',
    "/app/.env": f"DEBUG=1\nDATABASE_PASSWORD={token(20)}\n",
    "/app/.env.production": f"export STRIPE_API_KEY='{token(24)}'\n",
}
HARMLESS = {
    "/code.py": 'if text.startswith("-----BEGIN RSA PRIVATE KEY-----"):\n    return load(text)\n',
    "/readme.md": "Set `AWS_ACCESS_KEY_ID=AKIAIOSFODNN7EXAMPLE`, or GITHUB_TOKEN=ghp_" + "x" * 36,
    "/doc.txt": "https://user:password@example.org/ and hf_" + "a" * 34 + " and AKIA" + "A" * 16,
    "/cert.pem": "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n",
    "/words": "-----BEGIN PRIVATE KEY-----\nsomething like this, which is not in Base64 at all and never was, of course, no\n",
    "/app/.env": "API_TOKEN=${TOKEN}\nPASSWORD=changeme-please\nSECRET_NAME=<your-secret-here>\nLOG_TOKEN=aaaaaaaaaaaaaa\n",
    "/root/.netrc": "machine example.org login anonymous password 12345678\n".replace("12345678", "aaaaaaaa"),
    "/etc/pip.conf": "[global]\nindex-url = https://user:${PASSWORD}@pypi.example.org/simple\n",
    "/hash": "sha256:" + "ab" * 32 + " task_live_" + "c" * 30 + " AKIAI",
}


@pytest.mark.parametrize(
    ("kind", "text"),
    [(kind, text) for kind, texts in FOUND.items() for text in texts],
    ids=[f"{kind} {number}" for kind, texts in FOUND.items() for number, _ in enumerate(texts)],
)
def test_what_issuers_give_is_known_by_its_form(kind: str, text: str) -> None:
    assert kind in find_credentials(f"x = '{text}'\n".encode(), "/app/settings.py")


@pytest.mark.parametrize(("path", "text"), IN_FILES.items(), ids=IN_FILES)
def test_files_for_credentials_are_known_by_their_names(path: str, text: str) -> None:
    assert list(find_credentials(text.encode(), path))
    assert not list(find_credentials(text.encode(), "/usr/share/doc/manual.txt"))


@pytest.mark.parametrize(("path", "text"), HARMLESS.items(), ids=HARMLESS)
def test_examples_and_code_are_none(path: str, text: str) -> None:
    assert list(find_credentials(text.encode(), path)) == []


def test_one_behind_a_megabyte_is_found_wherever_the_pieces_are_cut() -> None:
    secret = ("ghp_" + token(36)).encode()
    for at in (1 << 20, (1 << 20) - 10, (1 << 20) - 39, (2 << 20) + 5):
        text = b"# a comment\n" * ((3 << 20) // 12)
        tree = image({"app/log.txt": text[:at] + b"\n" + secret + b"\n" + text[at:]}).tree
        assert tree.find("/app/log.txt").credentials == ("a token of GitHub",)  # type: ignore[union-attr]


def test_variables_are_judged_by_name_and_value() -> None:
    secret = token(32)
    given = {
        "GITHUB_TOKEN": secret,
        "PATH": "/usr/bin",
        "GPG_KEY": "A035C8C19219BA821ECEA86B64E628F8D684696D",
        "TOKENIZERS": "abc",
        "HF": "hf_" + token(34, string.ascii_letters),
        "PASSWORD_FILE": "x",
        "PASSWORD": "short",
    }

    told = dict(secret_variables(given.items()))

    assert set(told) == {"GITHUB_TOKEN", "HF"}
    assert not any(secret in text for text in told.values())
