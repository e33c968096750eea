"""Are the objects that nvcc-per-arch makes those that nvcc makes? In the builder image, in a configured build folder.

    python3 same_kernels.py BUILD [NAME...]     NAME.cu.o is compiled both ways; none: a sample of 44 (no FlashAttention)

nvcc is given the same __CUDA_ARCH_LIST__. Compared are, of every image in the object: the instructions and constants of each
kernel, byte for byte, their parameters, and the symbols; and of the host's half: code, data and symbols. Names of static
things hold the module id, which may be nvcc's process id; it is left out of them on both sides. So is what nvcc adds to the
name of the file that the host compiler is given, and static initialisers are named after: its process id, and the last of
several architectures.
"""

from __future__ import annotations

import hashlib
import os
import random
import re
import shlex
import struct
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

LAUNCHER = "/usr/local/libexec/imagetiers/nvcc-per-arch"
SECTION_HEADER = struct.Struct("<IIQQQQIIQQ")
SYMBOL = struct.Struct("<IBBHQQ")
NOBITS, SYMBOLS, STRINGS, RELOCATIONS = 8, 2, 3, {4, 9}
ANONYMOUS = re.compile(rb"(\d+)(_GLOBAL__N_|_INTERNAL)_")
ID = re.compile(rb"_[0-9a-f]{8}_\d+_\w+?_cu_[0-9a-f]{8}(?:_\d+)?")
HOST_FILE = re.compile(rb"tmpxft_[0-9a-f]{8}_[0-9a-f]{8}[-_]\d+_|\.compute_\d+a?(?=\.cudafe1\.cpp)")


def without_id(name: bytes) -> bytes:
    """Return a symbol's name without the module id. A mangled name says how long the part that holds it is."""
    found = ANONYMOUS.search(name)
    while found is not None:
        name = name[: found.start()] + found[2].lower() + name[found.start(2) + int(found[1]) :]
        found = ANONYMOUS.search(name)
    return HOST_FILE.sub(b"", ID.sub(b"(id)", name))


@dataclass(frozen=True)
class Object:
    """Sections by name (in each the digest of its bytes) and symbols of an ELF file."""

    sections: tuple[tuple[bytes, str], ...]
    symbols: tuple[tuple[bytes, int, int], ...]

    def only(self, *prefixes: bytes) -> tuple[tuple[bytes, str], ...]:
        """Return the sections with such names."""
        return tuple(section for section in self.sections if section[0].startswith(prefixes))


def read_elf(data: bytes) -> Object:
    """Read a 64-bit ELF file."""
    (table,) = struct.unpack_from("<Q", data, 40)
    size, count, names = struct.unpack_from("<HHH", data, 58)
    headers = [SECTION_HEADER.unpack_from(data, table + size * index) for index in range(count or 1)]
    if not count:  # more sections than fit there
        headers = [SECTION_HEADER.unpack_from(data, table + size * index) for index in range(headers[0][5])]
    names = headers[0][6] if names == 0xFFFF else names

    def text(index: int, at: int) -> bytes:
        start = headers[index][4] + at
        return data[start : data.index(b"\0", start)]

    def body(header: tuple[int, ...]) -> bytes:
        return b"" if header[1] == NOBITS else data[header[4] : header[4] + header[5]]

    sections, symbols = [], []
    for header in headers:
        if header[1] == SYMBOLS:
            for at in range(header[4], header[4] + header[5], SYMBOL.size):
                name, info, _, _, _, length = SYMBOL.unpack_from(data, at)
                symbols.append((without_id(text(header[6], name)), info, length))
        elif header[1] != STRINGS and header[1] not in RELOCATIONS:
            name, content = without_id(text(names, header[0])), without_id(body(header))
            if b".str" in name:  # texts, each where its own length lets it begin
                content = b"\0".join(filter(None, content.split(b"\0")))
            sections.append((name, hashlib.sha256(content).hexdigest()))
    return Object(tuple(sorted(sections)), tuple(sorted(symbols)))


def images_in(path: Path) -> Iterator[Object]:
    """Yield the machine code for each architecture in an object."""
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run(["cuobjdump", "-xelf", "all", str(path)], cwd=folder, check=True, stdout=subprocess.DEVNULL)
        for file in sorted(Path(folder).iterdir()):
            yield read_elf(file.read_bytes())


def differences(ours: Path, theirs: Path) -> list[str]:
    """Return what is not the same in two objects."""
    found = []
    images = list(images_in(ours)), list(images_in(theirs))
    if len(images[0]) != len(images[1]):
        return ["number of images"]
    for one, other in zip(*images, strict=True):
        for what, prefix in (("kernels", b".text"), ("constants", b".nv.constant"), ("parameters", b".nv.info")):
            if one.only(prefix) != other.only(prefix):
                found.append(what)
        if one.symbols != other.symbols:
            found.append("device symbols")
    one, other = read_elf(ours.read_bytes()), read_elf(theirs.read_bytes())
    for what, prefix in (("host code", b".text"), ("host data", b".data"), ("host constants", b".rodata")):
        if one.only(prefix) != other.only(prefix):
            found.append(what)
    if one.symbols != other.symbols:
        found.append("host symbols")
    return found


def ninja(build: Path, *arguments: str) -> str:
    """Ask ninja."""
    return subprocess.run(["ninja", "-C", str(build), *arguments], check=True, stdout=subprocess.PIPE, text=True).stdout


def compiled(build: Path, target: str, folder: Path, toolchain: str) -> list[str]:
    """Compile a file both ways, and compare."""
    line = ninja(build, "-t", "commands", "-s", target).splitlines()[-1].rpartition(" && ")[2]
    words = shlex.split(line)
    archs = toolchain.partition(":")[2].replace(",", "\\,")
    nvcc = next(index for index, word in enumerate(words) if word.endswith("/nvcc"))
    same_list = ["-U__CUDA_ARCH_LIST__", f"-D__CUDA_ARCH_LIST__={archs}"]
    name = hashlib.sha256(target.encode()).hexdigest()[:12]
    made = [folder / f"{name}.ours.o", folder / f"{name}.theirs.o"]
    environment = {**os.environ, "NVCC_PER_ARCH_TOOLCHAIN": toolchain}
    for argv, output in (([LAUNCHER, *words[nvcc:]], made[0]), ([*words[nvcc:], *same_list], made[1])):
        changed = [str(output) if word == target else word for word in argv]
        changed[changed.index("-MF") + 1] = str(output.with_suffix(".d"))
        done = subprocess.run(changed, cwd=build, env=environment, check=False, capture_output=True, text=True)
        if done.returncode:
            return [f"does not compile: {done.stderr[-300:]}"]
    return differences(*made)


def main() -> int:
    """Compile and compare."""
    build, names = Path(sys.argv[1]), sys.argv[2:]
    targets = [line.partition(":")[0] for line in ninja(build, "-t", "targets", "all").splitlines() if ".cu.o:" in line]
    if names:
        targets = [target for target in targets if Path(target).name.removesuffix(".cu.o") in names]
    else:
        targets = random.Random(7).sample(sorted(target for target in targets if "flash" not in target), 44)
    asked = [LAUNCHER, "--identify", "/usr/bin/nvcc", "/usr/bin/cuda-g++"]
    toolchain = subprocess.run(asked, check=True, stdout=subprocess.PIPE, text=True).stdout.strip()
    with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor(os.cpu_count()) as pool:
        found = list(pool.map(lambda target: compiled(build, target, Path(folder), toolchain), targets))
    for target, what in zip(targets, found, strict=True):
        print(f"{Path(target).name:60} {', '.join(what) or 'equal'}")
    print(f"{sum(not what for what in found)} of {len(found)} are equal")
    return int(any(found))


if __name__ == "__main__":
    sys.exit(main())
