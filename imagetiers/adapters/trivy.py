"""trivy, a scanner of images that is a program of its own: beside this Python, on the PATH, or not there.

It is never let out: it has the database that it is given, in a folder, and nothing is fetched or reported.
"""

from __future__ import annotations

import shutil
import sys
import tempfile
from collections.abc import Iterable
from pathlib import Path

from imagetiers.adapters.process import run
from imagetiers.documents import parse_object
from imagetiers.errors import CorruptError
from imagetiers.planning.observed import Unknown
from imagetiers.services import Scan

__all__ = ["Trivy"]

_SECONDS = 1800.0
_OFFLINE = (
    "--offline-scan",
    "--skip-db-update",
    "--skip-java-db-update",
    "--disable-telemetry",
    "--skip-version-check",
)
_QUIET = ("--quiet", "--no-progress")
_MOST = 256 << 20  # bytes of an answer
_MOST_MEMBERS, _MOST_UNPACKED = 10_000, 1 << 40  # of an image's archive: members, and bytes
_TOLD = 300


class Trivy:
    """The real Scanner."""

    def sbom(self, archive: Iterable[bytes]) -> bytes | Unknown:
        """Return what an image is made of, as CycloneDX, from the archive that the engine saves."""
        with tempfile.TemporaryDirectory(prefix="imagetiers-trivy-") as name:
            path, out = Path(name) / "image.tar", Path(name) / "sbom.json"
            with path.open("wb") as file:
                file.writelines(archive)
            try:
                given = _readable(path, Path(name) / "image")
            except (OSError, CorruptError) as error:
                return Unknown(f"the image's archive cannot be read: {error}")
            words = ("image", "--input", str(given), "--format", "cyclonedx", "--output", str(out))
            return self._ask((*words, *_OFFLINE, *_QUIET, "--cache-dir", f"{name}/cache"), out)

    def spdx(self, sbom: bytes) -> bytes | Unknown:
        """Return a CycloneDX document as SPDX."""
        with tempfile.TemporaryDirectory(prefix="imagetiers-trivy-") as name:
            path, out = Path(name) / "sbom.json", Path(name) / "spdx.json"
            path.write_bytes(sbom)
            words = ("sbom", str(path), "--format", "spdx-json", "--output", str(out))
            return self._ask((*words, *_OFFLINE, *_QUIET, "--cache-dir", f"{name}/cache"), out)

    def scan(self, sbom: bytes, database: Path, vex: Iterable[bytes]) -> Scan | Unknown:
        """Hold an SBOM against the database of a folder; the statements of `vex` (OpenVEX) take away what they rule out."""
        with tempfile.TemporaryDirectory(prefix="imagetiers-trivy-") as name:
            folder = Path(name)
            if not (database / "db" / "trivy.db").is_file():
                return Unknown(f"there is no database: {database}/db/trivy.db")
            # trivy writes beside its database, which may be somebody else's.
            (folder / "cache" / "db").mkdir(parents=True)
            for file in ("trivy.db", "metadata.json"):
                (folder / "cache" / "db" / file).symlink_to((database / "db" / file).resolve())
            (folder / "sbom.json").write_bytes(sbom)
            said = self._ask(("version", "--format", "json", "--cache-dir", f"{name}/cache"), None)
            if isinstance(said, Unknown):
                return said
            about = parse_object(said) or {}
            updated = (about.get("VulnerabilityDB") or {}).get("UpdatedAt")
            if not isinstance(updated, str):
                return Unknown(f"the database in {database} does not say of when it is")
            words = ["sbom", str(folder / "sbom.json"), "--scanners", "vuln", "--format", "json"]
            for number, statement in enumerate(vex):
                (folder / f"vex-{number}.json").write_bytes(statement)
                words += ["--vex", str(folder / f"vex-{number}.json")]
            out = folder / "report.json"
            words += ["--output", str(out), *_OFFLINE, *_QUIET, "--cache-dir", f"{name}/cache"]
            report = self._ask(tuple(words), out)
            if isinstance(report, Unknown):
                return report
            return Scan(f"trivy {about.get('Version')}", updated, report)

    def _ask(self, words: tuple[str, ...], out: Path | None) -> bytes | Unknown:
        program = _program()
        if program is None:
            return Unknown("trivy is not installed")
        lines: list[str] = []
        try:
            code = run((program, *words), on_line=lines.append, seconds=_SECONDS)
            if code == 0 and out is not None:
                return out.read_bytes() if out.stat().st_size <= _MOST else Unknown("trivy's answer has no end")
        except (OSError, TimeoutError) as error:
            return Unknown(f"trivy cannot be run: {error}")
        said = "\n".join(lines)
        return said.encode() if code == 0 else Unknown(f"trivy ended with exit code {code}: {said.strip()[-_TOLD:]}")


def _readable(archive: Path, folder: Path) -> Path:
    """Return an image's archive as trivy reads it rightly; the folder is for that. Raises CorruptError, OSError.

    Of an archive trivy looks at the first layer and takes all for compressed or not as that one is. In containerd's image store
    they differ, above an image that `docker load` has brought. Of OCI's layout in a folder it looks at each.
    """
    from imagetiers.layers.archive import has_compressed_layers
    from imagetiers.state.archives import ArchiveLimits, ArchiveReader

    if not has_compressed_layers(archive):
        return archive
    folder.mkdir()
    with ArchiveReader(archive, ArchiveLimits(_MOST_MEMBERS, _MOST_UNPACKED)) as reader:
        reader.unpack(folder)
    archive.unlink()
    return folder


def _program() -> str | None:
    beside = Path(sys.executable).parent / "trivy"
    return str(beside) if beside.exists() else shutil.which("trivy")
