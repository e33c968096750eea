"""Image references and registries, by the grammar of OCI's distribution (github.com/distribution/reference)."""

from __future__ import annotations

import re

__all__ = ["check_image", "check_place", "check_reference", "repository_of"]

_HOST = re.compile(r"(?:[a-z0-9]|[a-z0-9][a-z0-9-]*[a-z0-9])(?:\.(?:[a-z0-9]|[a-z0-9][a-z0-9-]*[a-z0-9]))*")
_COMPONENT = re.compile(r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*")
_TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}")
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")
_LONGEST = 255  # characters of a repository's name
_PORTS = range(1, 65536)


def repository_of(ref: str) -> str:
    """Return a reference without its tag and digest; a port is no tag."""
    name = ref.partition("@")[0]
    first, colon, last = name.rpartition(":")
    return first if colon and "/" not in last else name


def check_place(text: str) -> tuple[str, str] | None:
    """Say what is wrong with a registry's place, HOST[:PORT][/PATH], and the cure; None for a good one."""
    cure = "write HOST, HOST:PORT or HOST/PATH, such as us-central1-docker.pkg.dev/PROJECT/REPO"
    if _SCHEME.match(text):
        return "a registry has no scheme", f"write {_SCHEME.sub('', text)}"
    if "@" in text:
        return "a registry has neither user nor digest", cure
    host, _, path = text.partition("/")
    name, colon, port = host.partition(":")
    if not _HOST.fullmatch(name):
        return f"'{name}' is not a host name (in small letters)", cure
    if colon and not _is_port(port):
        return f"'{port}' is not a port", "write a number from 1 to 65535"
    if "/" in text and not all(_COMPONENT.fullmatch(part) for part in path.split("/")):
        return f"'{path}' is not a path of small letters, digits and single separators", cure
    return ("is too long", cure) if len(text) > _LONGEST else None


def check_image(text: str) -> tuple[str, str] | None:
    """Say what is wrong with an outside image's reference, and the cure; None for one with a tag or a digest."""
    wrong = check_reference(text)
    if text.partition("@")[0].partition(":")[0] == "scratch":
        return "'scratch' is no image", "remove it, and write FROM scratch in the Dockerfile"
    if wrong is None and "@" not in text and ":" not in text.rpartition("/")[2]:
        return "has no tag, so it would mean another image each month", f"write {text}:TAG"
    return wrong


def check_reference(text: str) -> tuple[str, str] | None:
    """Say what is wrong with a reference, and the cure; None for one that Docker reads, be it without a tag."""
    if _SCHEME.match(text):
        return "an image has no scheme", f"write {_SCHEME.sub('', text)}"
    named, at, digest = text.partition("@")
    *folders, last = named.split("/")
    last, *tags = last.split(":")
    return _check_ends(tags, digest if at else None) or _check_name([*folders, last])


def _check_ends(tags: list[str], digest: str | None) -> tuple[str, str] | None:
    if digest is not None and not _DIGEST.fullmatch(digest):
        return f"'{digest}' is not a digest", "sha256: and 64 hex digits in small letters"
    if len(tags) > 1:
        return "has two tags", "keep one of them"
    if tags and not _TAG.fullmatch(tags[0]):
        return f"'{tags[0]}' is not a tag", "a tag has letters, digits, '_', '.' and '-', 128 at most"
    return None


def _check_name(path: list[str]) -> tuple[str, str] | None:
    if len(path) > 1 and (set(":.") & set(path[0]) or path[0] == "localhost"):
        host, *path = path
        if wrong := check_place(host):
            return wrong
    shown = "/".join(path)
    if not all(_COMPONENT.fullmatch(part) for part in path):
        return (
            f"'{shown}' is not the name of an image",
            "small letters, digits and single separators: nvidia/cuda:12.4.1-devel",
        )
    return ("has too long a name", f"{_LONGEST} characters at most") if len(shown) > _LONGEST else None


def _is_port(text: str) -> bool:
    return text.isascii() and text.isdecimal() and len(text) < len("100000") and int(text) in _PORTS
