"""What a kept build folder says of itself: what it was made from, who has read which source, where its parts go."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from imagetiers.build_folder.errors import UnusableError
from imagetiers.build_folder.tree import Source

__all__ = ["COMPILED", "ELSEWHERE", "NAME", "UNREAD", "FolderManifest"]

NAME = "manifest.json"
FORMAT = 1

COMPILED = "compiled"  # only compilers have read it, and ninja knows which
UNREAD = "unread"  # nobody has, so no more than packaging reads it
ELSEWHERE = "elsewhere"  # configuration, a generator, a linker, or somebody that nobody knows of


@dataclass(frozen=True, slots=True)
class FolderManifest:
    """`root`, `build`, `outside` (dependencies: mtime) and `each_time` are absolute paths, others are below `root`.

    `readers` says of each source who has read it. `products` are the files and folders in the parts, `each_time` the
    outputs of commands that run each time. `newest` is the latest time in all of it, in Unix ns.
    """

    root: str
    build: str
    fingerprint: Mapping[str, str]
    sources: Mapping[str, Source] = field(default_factory=dict)
    readers: Mapping[str, str] = field(default_factory=dict)
    outside: Mapping[str, int] = field(default_factory=dict)
    products: tuple[str, ...] = ()
    each_time: tuple[str, ...] = ()
    newest: int = 0

    def with_sources(self, sources: Mapping[str, Source]) -> FolderManifest:
        """Return it with other sources."""
        return replace(self, sources=sources)

    def encode(self) -> bytes:
        """Return it as JSON."""
        document = {
            "format": FORMAT,
            "root": self.root,
            "build": self.build,
            "fingerprint": dict(self.fingerprint),
            "sources": {
                path: [one.kind, one.digest, one.mtime, one.undeclared, self.readers.get(path, ELSEWHERE)]
                for path, one in self.sources.items()
            },
            "outside": dict(self.outside),
            "products": list(self.products),
            "each_time": list(self.each_time),
            "newest": self.newest,
        }
        return json.dumps(document, sort_keys=True, separators=(",", ":")).encode("ascii")

    @classmethod
    def decode(cls, data: bytes) -> FolderManifest:
        """Read one. Raises UnusableError."""
        try:
            document = json.loads(data)
            if document["format"] != FORMAT:
                raise UnusableError("it was kept by another version of imagetiers")
            rows = document["sources"]
            return cls(
                root=document["root"],
                build=document["build"],
                fingerprint=document["fingerprint"],
                sources={path: Source(*row[:4]) for path, row in rows.items()},
                readers={path: row[4] for path, row in rows.items()},
                outside=document["outside"],
                products=tuple(document["products"]),
                each_time=tuple(document["each_time"]),
                newest=document["newest"],
            )
        except (ValueError, KeyError, TypeError, IndexError, AttributeError) as error:
            raise UnusableError("its description cannot be read") from error

    def changed(self, now: Mapping[str, Source]) -> tuple[str, ...]:
        """Return the sources that are not what they were. Raises UnusableError for a change that only a new build answers."""
        added, removed = sorted(now.keys() - self.sources.keys()), sorted(self.sources.keys() - now.keys())
        for paths, what in ((added, "is new"), (removed, "is gone")):
            if paths:
                raise UnusableError(f"{_some(paths)} {what}: it might be found in the place of another")
        found = []
        for path, source in now.items():
            old = self.sources[path]
            if (source.kind, source.digest) == (old.kind, old.digest):
                continue
            if source.kind != old.kind or source.kind == "link":
                raise UnusableError(f"{path} is another kind of file, or leads elsewhere")
            if self.readers[path] == ELSEWHERE:
                raise UnusableError(f"{path} has changed, which not only compilers read")
            found.append(path)
        return tuple(sorted(found))


def _some(paths: list[str]) -> str:
    return paths[0] + (f" (and {len(paths) - 1} more)" if len(paths) > 1 else "")
