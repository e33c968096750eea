"""`imagetiers.ccache` and `imagetiers.stores` without tiers: twenty lines that need nothing else of the package."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.ccache.synthetic import entries_in, make_directory
from tests.gcs.harness import BUCKET, GcsServer

SCRIPT = """
import sys
from pathlib import Path

from imagetiers.ccache.pull import pull
from imagetiers.ccache.push import push
from imagetiers.stores.open import open_store

url, here, there = sys.argv[1:]
store = open_store(url, Path.cwd())
pushed = push(store, "my-project", Path(here))
pulled = pull(store, ["my-project"], Path(there))
print(pushed.entries, pulled.entries)
print(*sorted(name for name in sys.modules if name.startswith("imagetiers.")))
"""


@pytest.mark.parametrize("kind", ["folder", "bucket"])
def test_a_directory_goes_through_a_store(kind: str, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    environment = dict(os.environ)
    url = "cache"
    if kind == "bucket":
        server: GcsServer = request.getfixturevalue("gcs_server")
        environment["STORAGE_EMULATOR_HOST"] = server.url
        url = f"gs://{BUCKET}/library"
    made = make_directory(tmp_path / "here", 50)
    command = [sys.executable, "-c", SCRIPT, url, str(tmp_path / "here"), str(tmp_path / "there")]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    counts, modules = done.stdout.splitlines()
    assert counts == "50 50"
    assert entries_in(tmp_path / "there") == made
    assert {name.split(".")[1] for name in modules.split()} <= {
        "ccache", "stores", "documents", "errors", "extras", "naming", "parallel", "retry",
    }  # fmt: skip
