"""Whether a text holds credentials: by the forms that issuers give to theirs, by files that hold some, and by entropy.

An example in a manual has the form, too. So a match counts only where its bits per character are those of something random, and
a private key only with its body. What is found is named by its kind and never repeated.
"""

from __future__ import annotations

import math
import posixpath
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

__all__ = ["LOOK_BACK", "find_credentials", "secret_variables"]

LOOK_BACK = 4096
"""Bytes that are looked at again with the next piece of a long text: no credential is longer before it is recognized."""


@dataclass(frozen=True, slots=True)
class _Form:
    """What credentials of a kind look like. `bits` are per character, at least.

    A text without any of the `anchors` is not searched: plain words are looked for many times as fast as the expression.
    """

    kind: str
    anchors: tuple[bytes, ...]
    pattern: re.Pattern[bytes]
    bits: float = 3.0


def _form(kind: str, anchors: str, pattern: str, bits: float = 3.0) -> _Form:
    return _Form(kind, tuple(anchors.encode().split(b"|")), re.compile(pattern.encode()), bits)


_EDGE, _END = r"(?<![A-Za-z0-9_/+-])", r"(?![A-Za-z0-9_/+-])"
_FORMS = (
    _form(
        "a private key",
        "PRIVATE KEY",
        r"-----BEGIN (?:[A-Z0-9]{2,10} ){0,2}PRIVATE KEY(?: BLOCK)?-----(?:\\n|\s|[A-Za-z-]{1,20}: [^\n]{1,100}\n){1,20}"
        r"([A-Za-z0-9+/=]{40,100})",
        4.0,
    ),
    _form("an access key of AWS", "AKIA|ASIA", rf"{_EDGE}((?:AKIA|ASIA)[A-Z2-7]{{16}}){_END}", 3.2),
    _form("a token of GitHub", "ghp_|gho_|ghu_|ghs_|ghr_", rf"{_EDGE}(gh[pousr]_[A-Za-z0-9]{{36}}){_END}", 3.5),
    _form("a token of GitHub", "github_pat_", rf"{_EDGE}(github_pat_[A-Za-z0-9]{{22}}_[A-Za-z0-9]{{59}}){_END}", 3.5),
    _form("a token of GitLab", "glpat-", rf"{_EDGE}(glpat-[A-Za-z0-9_-]{{20,}})", 3.2),
    _form("an API key of Google", "AIza", rf"{_EDGE}(AIza[A-Za-z0-9_-]{{35}}){_END}", 3.5),
    _form("an OAuth secret of Google", "GOCSPX-", rf"{_EDGE}(GOCSPX-[A-Za-z0-9_-]{{28}}){_END}", 3.5),
    _form("a token of Hugging Face", "hf_", rf"{_EDGE}(hf_[A-Za-z]{{34}}){_END}", 3.5),
    _form("a token of OpenAI", "T3BlbkFJ", rf"{_EDGE}(sk-[A-Za-z0-9_-]{{16,80}}T3BlbkFJ[A-Za-z0-9_-]{{16,80}})", 3.5),
    _form("a token of Anthropic", "sk-ant-", rf"{_EDGE}(sk-ant-[a-z0-9]{{3,10}}-[A-Za-z0-9_-]{{80,}})", 3.5),
    _form("a token of npm", "npm_", rf"{_EDGE}(npm_[A-Za-z0-9]{{36}}){_END}", 3.5),
    _form("a token of PyPI", "pypi-AgE", rf"{_EDGE}(pypi-AgE[A-Za-z0-9_-]{{50,}})", 3.5),
    _form("a token of Slack", "xox", rf"{_EDGE}(xox[abprs]-[0-9]{{8,}}-[A-Za-z0-9-]{{16,}})", 3.2),
    _form("a key of Stripe", "_live_", rf"{_EDGE}([rs]k_live_[A-Za-z0-9]{{24,}})", 3.5),
    _form("a token of Docker Hub", "dckr_pat_", rf"{_EDGE}(dckr_pat_[A-Za-z0-9_-]{{27}}){_END}", 3.5),
)

# Files that exist to hold credentials, by name or by the end of their path.
_SETTINGS = (
    r"(?im)^[ \t]*(?:export[ \t]+)?[A-Z0-9_.]*(?:SECRET|TOKEN|PASSWORD|PASSWD|API_?KEY|ACCESS_?KEY)[A-Z0-9_]*"
    r"[ \t]*[=:][ \t]*[\"']?([^\s\"'#$<{]{12,})"
)
_IN_FILES: tuple[tuple[str, str, re.Pattern[bytes], float], ...] = tuple(
    (end, kind, re.compile(pattern.encode()), bits)
    for end, kind, pattern, bits in (
        ("/.netrc", "a password", r"\bpassword\s+(\S{8,})", 2.5),
        ("/.git-credentials", "a password in a URL", r"://[^/\s:@]*:([^/\s@]{8,})@", 2.5),
        ("/.git/config", "a password in a URL", r"://[^/\s:@]*:([^/\s@]{8,})@", 2.5),
        ("/pip.conf", "a password in a URL", r"://[^/\s:@]*:([^/\s@$]{8,})@", 2.5),
        ("/.pypirc", "a password", r"(?m)^\s*password\s*[:=]\s*(\S{8,})", 2.5),
        ("/.npmrc", "a token of npm", r"_(?:authToken|auth|password)\s*=\s*([^\s$]{8,})", 2.5),
        ("/.docker/config.json", "a registry's password", r'"auth"\s*:\s*"([A-Za-z0-9+/=]{8,})"', 2.5),
        ("/.aws/credentials", "a secret key of AWS", r"aws_secret_access_key\s*=\s*(\S{30,})", 3.5),
        ("/.kube/config", "credentials of Kubernetes", r"(?:client-key-data|token)\s*:\s*(\S{20,})", 3.5),
        ("/application_default_credentials.json", "credentials of Google", r'"refresh_token"\s*:\s*"([^"]{20,})"', 3.5),
        ("/.env", "a secret in a file of settings", _SETTINGS, 3.2),
    )
)
_EXAMPLE = re.compile(rb"(?i)example|placeholder|your[-_]|xxxx|changeme|dummy|redacted|\*\*\*")
_VARIABLE = re.compile(r"(?:^|_)(SECRET|TOKEN|PASSWORD|PASSWD|API_?KEY|ACCESS_KEY|PRIVATE_KEY|CREDENTIALS)(?:_|$)")
_SHORTEST, _VARIABLE_BITS = 12, 3.0


def find_credentials(text: bytes, path: str) -> Iterator[str]:
    """Yield the kinds of credentials that a text holds, which is the content of `path`, or a piece of it."""
    for form in _FORMS:
        if any(anchor in text for anchor in form.anchors) and _any(form.pattern.findall(text), form.bits):
            yield form.kind
    name = posixpath.basename(path)
    for end, kind, pattern, bits in _IN_FILES:
        if (path.endswith(end) or (end == "/.env" and name.startswith(".env."))) and _any(pattern.findall(text), bits):
            yield kind


def secret_variables(variables: Iterable[tuple[str, str]]) -> Iterator[tuple[str, str]]:
    """Yield (name, why) of environment variables and labels that hold credentials, by their names and by their values."""
    for name, value in variables:
        data = value.encode(errors="surrogateescape")
        kind = next(find_credentials(data, ""), "")
        if kind:
            yield name, f"holds {kind}"
        elif _VARIABLE.search(name.upper()) and len(data) >= _SHORTEST and _random(data, _VARIABLE_BITS):
            yield name, "is called like a credential, and its value is a random text"


def _any(found: list[bytes], bits: float) -> bool:
    return any(_random(match, bits) for match in found)


def _random(text: bytes, bits: float) -> bool:
    return not _EXAMPLE.search(text) and _entropy(text) >= bits


def _entropy(text: bytes) -> float:
    """Return Shannon's bits per character."""
    return -sum(count / len(text) * math.log2(count / len(text)) for count in Counter(text).values())
