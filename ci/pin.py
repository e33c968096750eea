#!/usr/bin/env python3
"""Print pinned requirements for an image.

    ci/pin.py 3.13 wandb==0.31.0 > images/arr-training/programs/torch/trixie.txt

Each line names the one wheel that pip would take for that Python on Linux x86-64, by its sha256.
"""

import argparse
import json
import subprocess
import sys


def main() -> int:
    """Ask pip what it would install, and write that down."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("python", help="as 3.13")
    parser.add_argument("names", nargs="+", metavar="NAME")
    options = parser.parse_args()
    # Newest first: pip takes the first that fits. 35 is the glibc of Ubuntu 22.04.
    platforms = [f"manylinux_2_{minor}_x86_64" for minor in range(35, 4, -1)] + ["manylinux2014_x86_64", "linux_x86_64"]
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--dry-run", "--ignore-installed", "--report", "-"]
    command += ["--python-version", options.python, "--only-binary", ":all:", "--target", "unused"]
    command += [f"--platform={platform}" for platform in platforms]
    report = json.loads(subprocess.run([*command, *options.names], check=True, capture_output=True, text=True).stdout)
    lines = []
    for item in report["install"]:
        name = item["metadata"]["name"].lower().replace("_", "-")
        digest = item["download_info"]["archive_info"]["hashes"]["sha256"]
        lines.append(f"{name}=={item['metadata']['version']} \\\n    --hash=sha256:{digest}")
    first = f"# Python {options.python}, by ci/pin.py: {' '.join(options.names)}"
    sys.stdout.write("\n".join([first, *sorted(lines)]) + "\n")
    return 0


sys.exit(main())
