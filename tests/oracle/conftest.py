"""The base image of all cases: busybox alone, of Debian's package for this machine."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.oracle.buildkit import BASE, base_image, remove_images


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if "oracle" in config.getoption("-m", default=""):
        return
    for item in items:
        if item.get_closest_marker("oracle") is not None:
            item.add_marker(pytest.mark.skip(reason="thousands of builds: -m oracle"))


@pytest.fixture(scope="session")
def oracle_base(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Make the base image if it is not there; it stays, since it is 2 MB and always the same. What was built goes."""
    if subprocess.run(["docker", "image", "inspect", BASE], capture_output=True, check=False).returncode != 0:
        base_image(_busybox(tmp_path_factory.mktemp("busybox")))
    yield
    remove_images()


def _busybox(folder: Path) -> Path:
    installed = shutil.which("busybox")
    if installed is not None and subprocess.run(["ldd", installed], capture_output=True, check=False).returncode != 0:
        return Path(installed)
    folder.chmod(0o755)  # apt downloads as a user of its own
    subprocess.run(["apt-get", "download", "-qq", "busybox-static"], cwd=folder, check=True, capture_output=True)
    package = next(folder.glob("*.deb"))
    subprocess.run(["dpkg", "-x", str(package), str(folder / "root")], check=True)
    return next(path for path in folder.rglob("bin/busybox") if path.is_file())
