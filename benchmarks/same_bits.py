"""Compare the object files of two compiles, bit for bit.

    python benchmarks/same_bits.py CCACHE_DIR CCACHE_DIR

Two ccache directories that were filled by compiles of their own, from nothing: equal names in them mean equal inputs,
for that is how ccache names what it keeps. Every result that both have is taken out of both, and its files are compared.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import sysconfig
import tempfile
from collections import Counter
from pathlib import Path

CCACHE = str(Path(sysconfig.get_path("scripts")) / "ccache")


def results(directory: Path) -> dict[str, Path]:
    """Return ccache's results by name; in the name of the file, the folders' digits are the first ones."""
    found = [path for path in directory.glob("?/**/*R") if path.is_file()]
    return {"".join(path.relative_to(directory).parts): path for path in found}


def files(result: Path) -> dict[str, bytes]:
    """Return what a result holds: the object file, the compiler's messages."""
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run([CCACHE, "--extract-result", str(result)], cwd=folder, check=True, capture_output=True)
        return {path.name: path.read_bytes() for path in Path(folder).iterdir()}


def main() -> int:
    """Compare; 1 if anything differs."""
    parser = argparse.ArgumentParser(description="Are the object files of two compiles the same?")
    parser.add_argument("directory", type=Path, nargs=2)
    first, second = (results(directory) for directory in parser.parse_args().directory)
    both = sorted(first.keys() & second.keys())
    verdicts: Counter[str] = Counter()
    for name in both:
        one, other = files(first[name]), files(second[name])
        for kind in sorted(one.keys() | other.keys()):
            same = one.get(kind) == other.get(kind)
            verdicts[f"{kind.rpartition('.')[2]}: {'the same' if same else 'DIFFERENT'}"] += 1
            if not same:
                print(f"{name}: {kind} differs")
    print(f"{len(first)} and {len(second)} results, {len(both)} of them in both")
    for verdict, count in sorted(verdicts.items()):
        print(f"  {count:5} {verdict}")
    return int(any("DIFFERENT" in verdict for verdict in verdicts))


sys.exit(main())
