"""What large contexts cost: 50,000 files, half a thousand of 4 MiB, one of 5 GB; read, sent, and read again after an edit.

    python -m benchmarks.contexts [--to FILE]

Needs 6 GB of disk and no Docker: the tar is made and thrown away. The files were just written, so they are read from memory.
The floor beside each is one core hashing as many bytes. Each case runs in a process of its own, whose most memory is reported.
"""

from __future__ import annotations

import argparse
import hashlib
import multiprocessing
import resource
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from benchmarks.session import Measured, recording
from imagetiers.inputs.context import context_tar
from imagetiers.tasks.start import Opened, open_plan
from tests.many.repository import make_repository, remember_plan

_MIB = 1 << 20


OURS, FLOOR = "doit", "one core, SHA-256 of as many bytes"


def one_of_5_gb(folder: Path) -> None:
    """Write one file."""
    with (folder / "large").open("wb") as file:
        for number in range(5 * 1024):
            file.write(bytes([number % 256]) * _MIB)


def many_small(folder: Path) -> None:
    """Write 49,900 files of some 2 KB."""
    for number in range(49_900):
        below = folder / f"folder-{number % 100}"
        below.mkdir(exist_ok=True)
        (below / f"file-{number}").write_bytes(b"%d " % number * 400)


def many_of_4_mib(folder: Path) -> None:
    """Write 512 files."""
    for number in range(512):
        (folder / f"file-{number}").write_bytes(bytes([number % 256]) * 4 * _MIB)


CASES: dict[str, Callable[[Path], None]] = {
    "one file of 5 GB": one_of_5_gb,
    "49,900 files of 2 KB": many_small,
    "512 files of 4 MiB": many_of_4_mib,
}


def measure(case: str, folder: Path) -> list[Measured]:
    """Measure one case in this process."""
    layout = make_repository(folder / "one", 1)
    data = layout.tier("t00000") / "data"
    CASES[case](data)
    time.sleep(2.5)  # nothing is remembered of what is younger than two seconds

    def opened() -> tuple[Opened, float]:
        began = time.perf_counter()
        found = open_plan(layout, None)
        return found, time.perf_counter() - began

    found, first = opened()
    found.keep()
    tier = found.plan.tiers["t00000"]
    began = time.perf_counter()
    size = sum(map(len, context_tar(tier.files, tier.dockerfile)))
    sent = time.perf_counter() - began
    (data / "0").write_text("edited")
    _, edited = opened()
    remember_plan(layout)
    again, unchanged = opened()
    assert again.remembered
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1000
    began = time.perf_counter()
    digest, block = hashlib.sha256(), bytes(_MIB)
    for _ in range(size // _MIB):
        digest.update(block)
    floor = time.perf_counter() - began
    ours = {"size_mb": size / 1e6, "first_s": first, "sent_s": sent, "edited_s": edited, "unchanged_s": unchanged}
    taken = {name: (value,) for name, value in (ours | {"memory_mb": memory}).items()}
    return [Measured(case, OURS, taken), Measured(case, FLOOR, {"first_s": (floor,)})]


def main() -> None:
    """Measure."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--to", type=Path)
    with recording("contexts", parser.parse_args().to) as measured:
        for case in CASES:
            with tempfile.TemporaryDirectory() as temporary, multiprocessing.get_context("spawn").Pool(1) as pool:
                measured.extend(pool.apply(measure, (case, Path(temporary))))


if __name__ == "__main__":
    main()
