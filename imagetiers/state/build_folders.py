"""Kept build folders in the cache: for each line of compiles a list of the newest, and their parts by the hash of their bytes.

    folders/LINE.json           the list, newest first; signed, and changed only under a precondition
    folders/LINE/SHA256.zst     a part: what the compile's program has packed, compressed; nobody looks into it but that program

Objects in a folder are code. So a trusted build takes only what trusted builds have listed, an untrusted one what its own
branch has, too; the list is signed where wheels are, and a part is what its name says or nothing.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import zstandard

from imagetiers.documents import parse_object
from imagetiers.errors import CorruptError, NotFoundError, PreconditionError, Problem, StoreError
from imagetiers.parallel import map_parallel
from imagetiers.planning.plan import CompilePlan
from imagetiers.session import Session

__all__ = ["Folder", "FolderPart", "decode_folders", "encode_folders", "fetch", "publish"]

FORMAT = 1
PARTS_MAX = 1_000
FOLDERS_MAX = 64
THREADS = 8
_TRIES = 4
_LEVEL = 3
_PART = re.compile(r"[A-Za-z0-9][A-Za-z0-9.-]{0,119}\.(tar|json)")
_SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class FolderPart:
    """A file of a folder: its name there, the SHA-256 of its bytes, and how many they are, as they are and compressed."""

    name: str
    sha256: str
    raw: int
    stored: int


@dataclass(frozen=True, slots=True)
class Folder:
    """A folder that was kept at `at` (Unix s) after the compile of `key`."""

    key: str
    at: float
    parts: tuple[FolderPart, ...]

    @property
    def raw(self) -> int:
        """Bytes of all parts."""
        return sum(part.raw for part in self.parts)


def encode_folders(folders: tuple[Folder, ...]) -> bytes:
    """Write a list."""
    rows = [
        {"key": one.key, "at": one.at, "parts": [[p.name, p.sha256, p.raw, p.stored] for p in one.parts]}
        for one in folders
    ]
    return json.dumps({"format": FORMAT, "folders": rows}, sort_keys=True, separators=(",", ":")).encode()


def decode_folders(data: bytes) -> tuple[Folder, ...]:
    """Read a list, which may be anybody's. Raises ValueError."""
    document = parse_object(data) or {}
    rows = document.get("folders")
    if document.get("format") != FORMAT or not isinstance(rows, list) or len(rows) > FOLDERS_MAX:
        raise ValueError("no list of build folders")
    return tuple(_folder(row) for row in rows)


def _folder(row: object) -> Folder:
    if not isinstance(row, dict):
        raise ValueError("no folder")  # noqa: TRY004  what is read is no argument
    key, at, parts = row.get("key"), row.get("at"), row.get("parts")
    if not isinstance(key, str) or not _SHA256.fullmatch(key) or not isinstance(at, int | float):
        raise ValueError("a folder without key or time")
    if not isinstance(parts, list) or not 0 < len(parts) <= PARTS_MAX:
        raise ValueError("a folder of too many parts, or none")
    found = tuple(_part(part) for part in parts)
    if len({part.name for part in found}) < len(found):
        raise ValueError("two parts of one name")
    return Folder(key, float(at), found)


def _part(row: object) -> FolderPart:
    if not isinstance(row, list) or len(row) != 4:  # noqa: PLR2004
        raise ValueError("no part")
    name, sha256, raw, stored = row
    if not isinstance(name, str) or not _PART.fullmatch(name):
        raise ValueError("a part of a name that no part has")
    if not isinstance(sha256, str) or not _SHA256.fullmatch(sha256):
        raise ValueError("a part without hash")
    if type(raw) is not int or type(stored) is not int or raw < 0 or stored < 0:
        raise ValueError("a part without size")
    return FolderPart(name, sha256, raw, stored)


def fetch(session: Session, step: CompilePlan, target: Path) -> Folder | None:
    """Put the folder that is nearest to this compile into `target`, part by part; None where there is none.

    Nearest is that of the same key, otherwise the newest; of the own branch before those of trusted builds.
    Raises StoreError; CorruptError also for what is larger than the step allows. `target` is then of no use.
    """
    settings = step.config.build_folder
    assert settings is not None  # noqa: S101  the caller has asked
    for prefix in dict.fromkeys((session.trust.prefix, "")):
        listed = _listed(session, prefix, step)[0]
        if not listed:
            continue
        chosen = next((one for one in listed if one.key == step.key), listed[0])
        if chosen.raw > settings.max_size:
            raise CorruptError(Problem(_list_name(prefix, step), "the folder is larger than build_folder.max_size"))
        target.mkdir(parents=True)

        def take(part: FolderPart, prefix: str = prefix) -> None:
            _take(session, _part_name(prefix, step, part.sha256), part, target)

        map_parallel(take, sorted(chosen.parts, key=lambda part: -part.stored), THREADS)
        return chosen
    return None


def _listed(session: Session, prefix: str, step: CompilePlan) -> tuple[tuple[Folder, ...], int]:
    """Return the list and its generation. One that cannot be read as such is replaced by the next that is written."""
    try:
        data, generation = session.services.store.read(_list_name(prefix, step))
    except NotFoundError:
        return (), 0
    try:
        return decode_folders(data), generation
    except ValueError as error:
        session.services.console.line(f"compile:{step.tier}: {_list_name(prefix, step)}: {error}")
        return (), generation


def _take(session: Session, name: str, part: FolderPart, target: Path) -> None:
    packed = target / f".{part.name}.zst"
    session.services.store.read_file(name, packed)
    digest, left = hashlib.sha256(), part.raw
    try:
        with packed.open("rb") as source, (target / part.name).open("xb") as file:
            for piece in zstandard.ZstdDecompressor().read_to_iter(source):
                left -= len(piece)
                if left < 0:
                    break
                digest.update(piece)
                file.write(piece)
    except zstandard.ZstdError as error:
        raise CorruptError(Problem(name, f"cannot be decompressed: {error}")) from error
    finally:
        packed.unlink(missing_ok=True)
    if left or digest.hexdigest() != part.sha256:
        raise CorruptError(Problem(name, "is not what its name says"))


def publish(session: Session, step: CompilePlan, files: Mapping[str, Path]) -> Folder | None:
    """Put a folder's parts into the cache and at the head of the list; return it, None for one that is too large.

    What is there already is not sent again. What the list does not name any more is removed. Raises StoreError.
    """
    settings = step.config.build_folder
    assert settings is not None  # noqa: S101  the caller has asked
    if sum(path.stat().st_size for path in files.values()) > settings.max_size or len(files) > PARTS_MAX:
        return None
    prefix, store = session.trust.prefix, session.services.store
    there = {blob.name: blob.size for blob in store.list(f"{prefix}folders/{step.namespace}/")}

    def put(item: tuple[str, Path]) -> FolderPart:
        name, path = item
        with path.open("rb") as file:
            sha256 = hashlib.file_digest(file, "sha256").hexdigest()
        blob = _part_name(prefix, step, sha256)
        raw = path.stat().st_size
        if blob in there:
            return FolderPart(name, sha256, raw, there[blob])
        packed = path.with_name(f".{path.name}.zst")
        with path.open("rb") as source, packed.open("wb") as target:
            zstandard.ZstdCompressor(level=_LEVEL).copy_stream(source, target, size=raw)
        stored = packed.stat().st_size
        try:
            store.write_file(blob, packed, if_generation=0)
        except PreconditionError:
            pass  # the same bytes of another compile
        finally:
            packed.unlink(missing_ok=True)
        return FolderPart(name, sha256, raw, stored)

    parts = map_parallel(put, sorted(files.items()), THREADS)
    made = Folder(step.key, session.services.now(), tuple(parts))
    for _ in range(_TRIES):
        listed, generation = _listed(session, prefix, step)
        kept = (made, *(one for one in listed if one.key != step.key))[: settings.keep]
        try:
            store.write(_list_name(prefix, step), encode_folders(kept), if_generation=generation)
        except PreconditionError:
            continue
        _forget(session, prefix, step, listed, kept)
        return made
    raise StoreError(Problem(_list_name(prefix, step), "others write it all the time"))


def _forget(
    session: Session, prefix: str, step: CompilePlan, before: tuple[Folder, ...], kept: tuple[Folder, ...]
) -> None:
    """Remove the parts that only folders had which are listed no more. Who is fetching one now, compiles without."""
    named = {part.sha256 for one in kept for part in one.parts}
    gone = {part.sha256 for one in before for part in one.parts} - named
    map_parallel(lambda sha256: session.services.store.delete(_part_name(prefix, step, sha256)), sorted(gone), THREADS)


def _list_name(prefix: str, step: CompilePlan) -> str:
    return f"{prefix}folders/{step.namespace}.json"


def _part_name(prefix: str, step: CompilePlan, sha256: str) -> str:
    return f"{prefix}folders/{step.namespace}/{sha256}.zst"
