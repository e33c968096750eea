"""Where things lie: the repository's own files, and what imagetiers keeps under `.imagetiers/`."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from pathlib import Path

__all__ = [
    "DEFAULT_CACHE",
    "DOCKERFILE",
    "IMAGES",
    "KEPT",
    "MANIFEST",
    "PIPELINE_FILE",
    "PIPELINE_LOCK",
    "RUN_VARIABLE",
    "VERIFY_SCRIPT",
    "VOLUME_VARIABLE",
    "WORKER_VARIABLE",
    "Layout",
    "Volume",
    "parse_volume",
]

PIPELINE_FILE = "pipeline.yaml"
PIPELINE_LOCK = "pipeline.lock.yaml"
DOCKERFILE = "Dockerfile"
MANIFEST = ".image-manifest"
VERIFY_SCRIPT = "verify.py"
DEFAULT_CACHE = ".imagetiers/cache"
IMAGES = "images"
# What lies beside the cache in .imagetiers/.
KEPT = frozenset(
    {"bake", "ccache", "folders", "contexts", "made", "wheels", "logs", "state", "locks", "untrusted", "doit.db"}
)
VOLUME_VARIABLE = "IMAGETIERS_VOLUME"
WORKER_VARIABLE = "IMAGETIERS_WORKER"
RUN_VARIABLE = "IMAGETIERS_RUN"  # what the doits of one build have in common


@dataclass(frozen=True, slots=True)
class Volume:
    """A Docker volume, and where this process sees it: for a doit that runs in a container itself (Cloud Build).

    The daemon does not know that container's paths, so what other containers shall see lies on such a volume.
    """

    name: str
    path: Path

    def subpath(self, path: Path) -> str | None:
        """Return `path` as seen from the volume's root, or None where it does not lie on the volume."""
        return str(path.relative_to(self.path)) if path.is_relative_to(self.path) else None


def parse_volume(text: str) -> Volume | None:
    """Read `NAME:/PATH` (nothing: None). Raises ValueError."""
    if not text:
        return None
    match = re.fullmatch(r"([A-Za-z0-9][A-Za-z0-9_.-]*):(/[^:]+)", text)
    if match is None:
        raise ValueError(text)
    return Volume(match[1], Path(match[2]))


@dataclass(frozen=True, slots=True)
class Layout:
    """All paths, from the folder that holds pipeline.yaml. With a volume, what imagetiers writes lies there.

    `apart` is a folder within that, for an untrusted build: its wheels, ccache directories, marks and containers are found
    by no trusted one.
    """

    root: Path
    volume: Volume | None = None
    apart: str = ""

    @property
    def pipeline(self) -> Path:
        """The pipeline file."""
        return self.root / PIPELINE_FILE

    @property
    def lock(self) -> Path:
        """The pins: outside images by digest, git refs by commit."""
        return self.root / PIPELINE_LOCK

    @property
    def editor_schema(self) -> Path:
        """The JSON Schema of pipeline.yaml for editors: a copy of this version's own."""
        return self.work / "pipeline.schema.json"

    def tier(self, folder: str) -> Path:
        """Return the folder of tiers: of the one that has its name, and of those that name it."""
        return self.root / IMAGES / folder

    @property
    def work(self) -> Path:
        """Everything that imagetiers writes; safe to delete while no doit runs."""
        return (self.volume.path if self.volume is not None else self.root / ".imagetiers") / self.apart

    @property
    def state(self) -> Path:
        """Small marks that only save time or carry a wish (`doit forget`)."""
        return self.work / "state"

    @property
    def locks(self) -> Path:
        """Lock files; their content says who holds them."""
        return self.work / "locks"

    @property
    def checkout(self) -> str:
        """A short name of this checkout for containers: each has its own, also of one key."""
        where = f"{self.volume.name}:" if self.volume is not None else ""
        return hashlib.sha256(f"{where}{self.work.resolve()}".encode()).hexdigest()[:8]

    def ccache(self, namespace: str) -> Path:
        """Return the ccache directory of a namespace."""
        return self.work / "ccache" / namespace

    def wheels(self, compile_key: str) -> Path:
        """Return the folder of the finished wheels of a compile key: all of them or absent."""
        return self.work / "wheels" / compile_key

    def partial_wheels(self, compile_key: str) -> Path:
        """Return the folder that a running compile writes to."""
        return self.work / "wheels" / f".partial-{compile_key}"

    def build_folder(self, compile_key: str) -> Path:
        """Return the folder through which a running compile gets its build folder, and leaves the next."""
        return self.work / "folders" / compile_key

    def contexts(self, key: str) -> Path:
        """Return where folders that are named contexts are laid out while something of that key is built."""
        return self.work / "contexts" / key

    def archive(self, key: str) -> Path:
        """Return where what a tier makes is on its way to or from the cache."""
        return self.work / "made" / f"{key}.tar"

    def bake(self, variant: str | None) -> Path:
        """Return the folder of the build contexts that a variant's bake file names."""
        return self.work / "bake" / (f"variant-{variant}" if variant is not None else "base")

    def logs(self, tier: str) -> Path:
        """Return the folder of a tier's logs."""
        return self.work / "logs" / tier

    def log(self, tier: str, what: str, key: str) -> Path:
        """Return the full log of a build (`image`) or compile (`compile`) of a key."""
        return self.logs(tier) / f"{what}-{key[:12]}.log"
