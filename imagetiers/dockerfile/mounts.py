"""The options of `RUN --mount=`: comma-separated values as in a CSV file, then `key=value`.

Source: moby/buildkit, frontend/dockerfile/instructions/commands_runmount.go.
"""

from __future__ import annotations

from dataclasses import dataclass

from imagetiers.dockerfile.expand import LexError

__all__ = ["BIND", "SSH", "Mount", "parse_mount", "with_origin"]

BIND = "bind"
SSH = "ssh"
_TYPES = frozenset({BIND, "cache", "tmpfs", "secret", SSH})
_WITHOUT_VALUE = frozenset({"readonly", "ro", "readwrite", "rw", "required"})
_SAME = {"src": "source", "dst": "target", "destination": "target", "ro": "readonly", "rw": "readwrite"}
_KEYS = frozenset(
    {"type", "from", "source", "target", "readonly", "readwrite", "required"}
    | {"size", "id", "sharing", "mode", "uid", "gid", "env"}
)
_QUOTING = frozenset("\"'$\\`")


@dataclass(frozen=True, slots=True)
class Mount:
    """A mount, its values still unexpanded; `origin` is its `from=`, which takes no variables, `id` '' where it has none."""

    type: str
    origin: str | None
    source: str
    target: str = ""
    id: str = ""


def parse_mount(text: str) -> Mount:
    """Read the value of one `--mount=`. Raises LexError for what BuildKit refuses or its versions read differently."""
    kind, origin, source, target, id_ = BIND, None, "", "", ""
    for field in _fields(text):
        key, equals, value = field.partition("=")
        key = _SAME.get(key.lower(), key.lower())
        if key not in _KEYS:
            raise LexError(f"'{key}' is not an option of --mount")
        if not equals and key not in _WITHOUT_VALUE:
            raise LexError(f"the mount option '{field}' needs a value: {field}=…")
        if key == "type":
            kind = _type(value)
        elif key == "from":
            origin = _origin(value)
        elif key == "source":
            source = value
        elif key == "target":
            target = value
        elif key == "id":
            id_ = value
    if kind.lower() in {"secret", SSH} and origin:
        raise LexError(f"a mount of type {kind} has no 'from'")
    return Mount(kind, origin or None, source, target, id_)


def with_origin(text: str, origin: str) -> str:
    """Return the value of a `--mount=` with another `from=`."""
    fields = [f"from={origin}" if field.lower().startswith("from=") else field for field in _fields(text)]
    return ",".join('"' + field.replace('"', '""') + '"' if set('",') & set(field) else field for field in fields)


def _type(value: str) -> str:
    if "$" not in value and value.lower() not in _TYPES:
        raise LexError(f"'{value}' is not a type of mount (bind, cache, tmpfs, secret or ssh)")
    return value


def _origin(value: str) -> str:
    if _QUOTING & set(value):
        raise LexError(f"'from={value}' takes no variables, quotes or escapes", "give the stage a name, and use that")
    return value


def _fields(text: str) -> list[str]:
    """Split at commas; a field that begins with a double quote ends with one, and doubles those within."""
    if not text:
        raise LexError("--mount= is empty")
    if "\r" in text or "\n" in text:
        raise LexError("--mount holds a line break")
    fields: list[str] = []
    at = 0
    while True:
        if text.startswith('"', at):
            field, at = _quoted(text, at + 1)
        else:
            end = text.find(",", at)
            field, at = (text[at:], len(text)) if end < 0 else (text[at:end], end)
            if '"' in field:
                raise LexError(f"a quote inside of the mount option '{field}'")
        fields.append(field)
        if at >= len(text):
            return fields
        at += 1  # the comma


def _quoted(text: str, at: int) -> tuple[str, int]:
    field = ""
    while True:
        end = text.find('"', at)
        if end < 0:
            raise LexError("a quote in --mount does not end")
        field += text[at:end]
        if not text.startswith('""', end):
            break
        field, at = field + '"', end + 2
    if end + 1 < len(text) and text[end + 1] != ",":
        raise LexError("text behind a quoted mount option")
    return field, end + 1
