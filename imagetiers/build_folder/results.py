"""What a compile has made besides, kept by the digest of all that it was made from: it is taken again, or made again."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
from collections.abc import Mapping, Sequence

from imagetiers.build_folder import toolchain, tree
from imagetiers.build_folder.errors import UnusableError

__all__ = ["digest", "give", "take"]


def digest(paths: Sequence[str], but: Sequence[str], machine: Mapping[str, str], more: bytes) -> str:
    """Digest files and folders by content and name, the machine, the environment, and `more`. Raises UnusableError.

    What fits a pattern in `but`, by its path below a folder, is left out.
    """
    total = hashlib.sha256(hashlib.sha256(more).digest())
    compiles_with = {name: value for name, value in machine.items() if not name.startswith("$")}
    for name, value in sorted({**compiles_with, **toolchain.environment(os.environ)}.items()):
        total.update(f"{name}\0{value}\n".encode())
    for path in paths:
        found = tree.sources(path, but) if os.path.isdir(path) else {"": tree.source(path)}
        for below, one in sorted(found.items()):
            line = f"{path}\0{below}\0{one.kind}\0{one.digest}\n"
            total.update(line.encode("utf-8", "surrogateescape"))
    return total.hexdigest()


def take(given: str, left: str, name: str, folder: str) -> bool:
    """Unpack what is kept under a digest into `folder`, and keep it further; say whether there was any."""
    archive = f"{given}/result-{name}.tar"
    if not os.path.exists(archive):
        return False
    os.makedirs(folder, exist_ok=True)
    if subprocess.run(["tar", "-x", "--no-same-owner", "-C", folder, "-f", archive], check=False).returncode:
        return False
    os.makedirs(left, exist_ok=True)
    shutil.copyfile(archive, f"{left}/result-{name}.tar")
    return True


def give(left: str, name: str, files: Sequence[str]) -> None:
    """Keep files under a digest. Raises UnusableError."""
    os.makedirs(left, exist_ok=True)
    words = ["tar", "--format=posix", "--owner=0", "--group=0", "--numeric-owner"]
    for path in files:
        words += ["-C", os.path.dirname(os.path.abspath(path))]
        words.append(os.path.basename(path))
    done = subprocess.run([*words, "-c", "-f", f"{left}/result-{name}.tar"], check=False)
    if done.returncode:
        raise UnusableError(f"tar ended with {done.returncode}")
