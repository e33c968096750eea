"""A key pair of cosign's, made by cosign itself; tests that need one are skipped where it is not installed."""

from __future__ import annotations

import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest

needs_cosign = pytest.mark.skipif(shutil.which("cosign") is None, reason="no cosign: ci/bootstrap cosign installs it")


@dataclass(frozen=True)
class KeyPair:
    """Its files, and the environment that signs with it."""

    private: Path
    public: Path

    @property
    def env(self) -> dict[str, str]:
        return {"IMAGETIERS_COSIGN_KEY": str(self.private), "COSIGN_PASSWORD": "a word of ours"}


def key_pair(folder: Path, name: str = "cosign") -> KeyPair:
    folder.mkdir(parents=True, exist_ok=True)
    subprocess.run(
        ["cosign", "generate-key-pair", "--output-key-prefix", name],
        cwd=folder,
        env={**os.environ, "COSIGN_PASSWORD": "a word of ours"},
        check=True,
        capture_output=True,
    )
    return KeyPair(folder / f"{name}.key", folder / f"{name}.pub")
