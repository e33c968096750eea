"""Entries whose bytes follow from their name and version, so that any process can tell a wrong byte by itself.

A result has one content for ever, as its name is the hash of what it was made from. A manifest has versions: each
rewrite is stamped with a later creation time and is larger, as ccache's are. The name's number and the version stand in
the payload, which is otherwise drawn from them.
"""

from __future__ import annotations

import random
import re
from dataclasses import dataclass

import zstandard

from imagetiers.ccache.format.entry import check_entry
from imagetiers.errors import CorruptError
from tests.ccache.synthetic import make_entry, make_name

_STAMP = re.compile(rb"soak (\d+) (\d+) (\d+);")


@dataclass(frozen=True, slots=True)
class Made:
    """An entry as it was made: the number behind its name, its version, and when it was made (Unix s)."""

    number: int
    version: int
    created: int

    @property
    def manifest(self) -> bool:
        return bool(self.number % 2)

    @property
    def name(self) -> str:
        return make_name(self.number, self.number % 2, new=self.number % 3 != 0)

    def data(self) -> bytes:
        """Return the file's bytes; compressible for manifests, not for results, a few of them large."""
        draw = random.Random(f"{self.number} {self.version}")
        stamp = b"soak %d %d %d;" % (self.number, self.version, self.created)
        if self.manifest:
            payload = stamp + b"include/path/of/a/header.h " * (20 + self.version) + draw.randbytes(16)
        else:
            payload = stamp + draw.randbytes(int(draw.lognormvariate(7, 1)) % 60_000)
        return make_entry(payload, kind=self.number % 2, created=self.created, compressed=self.number % 5 != 0)


def make(number: int, version: int, created: float) -> Made:
    """Make an entry; a result knows neither versions nor a time of its own."""
    return Made(number, version, int(created)) if number % 2 else Made(number, 0, 1_700_000_000)


def wrong(name: str, data: bytes) -> str:
    """Say what is wrong with an entry file; empty when every byte is as it was made."""
    try:
        payload = data[(header := check_entry(data, name)).length : -16]
        if header.compressed:
            payload = zstandard.ZstdDecompressor().decompressobj().decompress(payload)
    except (CorruptError, zstandard.ZstdError) as error:
        return f"{name}: {error}"
    found = _STAMP.search(payload)
    if found is None:
        return f"{name}: is no entry of this soak's"
    made = Made(*map(int, found.groups()))
    if made.name != name:
        return f"{name}: holds the entry {made.name}"
    if made.data() != data:
        return f"{name}: is not as it was made, version {made.version}"
    return ""
