"""What does a change of the list of architectures compile? nvcc-per-arch, ccache and sccache, on real files of PyTorch.

    python3 -m benchmarks.per_arch BUILD FOLDER [--sccache PROGRAM] [--only TOOL]...

In the builder image, in a folder that holds this one, with a build folder that is configured.

Every tool begins with an empty cache and compiles the same files with one list of architectures after the other (`LISTS`),
each file by nvcc's own command line, as CMake has written it, with other `-gencode` options. FOLDER keeps `per_arch.csv`:
seconds, also of the first files alone, and what was compiled, in each tool's own words. `same.json`: is each object that
the launcher has made what nvcc makes of the same list (see same_kernels.py)? That of two files of FlashAttention, too.

ccache keeps nothing of one list for another, which a part of the files shows as well (`PART`): except for the six
architectures, where its objects are what ours are compared with.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import random
import resource
import shlex
import subprocess
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, fields
from pathlib import Path

from benchmarks.same_kernels import LAUNCHER, differences, ninja

FIVE = ("70", "75", "80", "86", "89")
LISTS = {
    "cold, five architectures": FIVE,
    "the same again": FIVE,
    "a sixth added": (*FIVE, "90"),
    "one removed": FIVE[1:],
    "one alone": ("86",),
}
FLASH_LIST = "FlashAttention, sm_90"
TOOLS = ("nvcc-per-arch", "ccache", "sccache")
#: Files are drawn among those that take no longer than this for one architecture (seconds of processor), by kind.
SECONDS = 22.0
SAMPLE = {"attention": 8, "others": 34}
FLASH = 2
PART = 10
NVCC = "/usr/bin/nvcc"


@dataclass(frozen=True)
class Row:
    """Seconds of wall and processor for all files of a list, and what was compiled: counts by the tool's own names.

    `first_10` and `first_24` are seconds of processor of so many files, where the calls themselves do the work: with
    sccache, its server does. `failed` is a count of files.
    """

    tool: str
    list: str
    files: int
    failed: int
    wall: float
    processor: float
    first_10: float | None
    first_24: float | None
    compiled: str


@dataclass(frozen=True)
class Source:
    """An object of the build folder, and the words of nvcc's command for it."""

    target: str
    words: tuple[str, ...]

    @property
    def name(self) -> str:
        """A name that no other object has."""
        return self.target.replace("/", "_").removesuffix(".cu.o")[-120:]

    def argv(self, archs: tuple[str, ...], output: Path) -> list[str]:
        """Return nvcc's command for these architectures and another output."""
        words: list[str] = []
        rest = iter(self.words)
        for word in rest:
            if word in ("-gencode", "--generate-code"):
                next(rest)
            elif word.startswith(("-gencode=", "--generate-code=")):
                continue
            elif word == "-MF":
                words += [word, str(output.with_suffix(".d"))]
                next(rest)
            else:
                words.append(str(output) if word == self.target else word)
        return [words[0], *(f"--generate-code=arch=compute_{arch},code=[sm_{arch}]" for arch in archs), *words[1:]]


def sources(build: Path, names: list[str]) -> list[Source]:
    """Return the commands of objects."""
    found = []
    for target in names:
        line = ninja(build, "-t", "commands", "-s", target).splitlines()[-1].rpartition(" && ")[2]
        words = shlex.split(line)
        first = next(index for index, word in enumerate(words) if word.endswith("/nvcc"))
        found.append(Source(target, tuple(words[first:])))
    return found


def plain(target: str) -> str:
    """Return an object's name without what CMake adds to it, as the table of costs has it."""
    return target.replace("CMakeFiles/", "").replace(".dir/", "/").replace("/__/", "/")


def drawn(build: Path, costs: Path) -> tuple[list[str], list[str]]:
    """Return the sample, and the smallest files of FlashAttention."""
    here = {line.partition(":")[0] for line in ninja(build, "-t", "targets", "all").splitlines() if ".cu.o:" in line}
    with costs.open(encoding="utf-8") as file:
        seconds = {row["object"]: float(row["processor_seconds"]) for row in csv.DictReader(file)}
    known = {target: seconds[named] for target in here for named in [plain(target)] if named in seconds}
    flash = sorted((name for name in known if "flash_attn" in name), key=known.__getitem__)
    small = sorted(name for name, cost in known.items() if "flash_attn" not in name and cost <= SECONDS)
    kinds = {"attention": [n for n in small if "mem_eff" in n], "others": [n for n in small if "mem_eff" not in n]}
    rng = random.Random(11)
    return [
        name for kind, many in SAMPLE.items() for name in rng.sample(kinds[kind], min(many, len(kinds[kind])))
    ], flash[:FLASH]


class Tool:
    """A compiler cache with a cache of its own."""

    def __init__(self, name: str, folder: Path, sccache: str) -> None:
        self.name, self.folder, self.sccache = name, folder, sccache
        folder.mkdir(parents=True)
        self.log = folder / "log"
        self.environment = {**os.environ, "TMPDIR": str(folder)}
        if name == "sccache":
            self.environment |= {"SCCACHE_DIR": str(folder / "cache"), "SCCACHE_IDLE_TIMEOUT": "0",
                                 "SCCACHE_CACHE_SIZE": "50G", "SCCACHE_SERVER_UDS": str(folder / "socket")}  # fmt: skip
            subprocess.run([sccache, "--start-server"], env=self.environment, check=True)
        else:
            self.environment |= {"CCACHE_DIR": str(folder / "cache"), "CCACHE_STATSLOG": str(self.log),
                                 "CCACHE_NOHASHDIR": "1", "CCACHE_BASEDIR": ""}  # fmt: skip
        if name == "nvcc-per-arch":
            asked = [LAUNCHER, "--identify", NVCC, "/usr/bin/cuda-g++"]
            toolchain = subprocess.run(asked, check=True, stdout=subprocess.PIPE, text=True).stdout.strip()
            self.environment |= {"NVCC_PER_ARCH_TOOLCHAIN": toolchain, "NVCC_PER_ARCH_LOG": str(self.log)}

    def command(self, words: list[str], same_list: list[str]) -> list[str]:
        """Return the command with the tool before it. What is compared is given the same list of architectures."""
        if self.name == "nvcc-per-arch":
            return [LAUNCHER, *words]
        return ["ccache", *words, *same_list] if self.name == "ccache" else [self.sccache, *words]

    def compiled(self) -> dict[str, int]:
        """Return what was compiled so far."""
        if self.name == "sccache":
            text = subprocess.run([self.sccache, "--show-stats", "--stats-format=json"], env=self.environment, check=True,
                                  stdout=subprocess.PIPE, text=True).stdout  # fmt: skip
            stats = json.loads(text)["stats"]
            counts = Counter(stats["cache_misses"]["counts"])
            counts["not cached"] = sum(stats["not_cached"].values())
            return dict(counts)
        lines = self.log.read_text(encoding="utf-8").splitlines() if self.log.exists() else []
        if self.name == "ccache":
            return dict(Counter(line for line in lines if line == "cache_miss" or line.startswith("unsupported")))
        entries = [json.loads(line) for line in lines if line.startswith("{")]
        units = Counter("host" if "host" in entry["unit"] else entry["unit"] for entry in entries if "unit" in entry)
        units["plain"] = sum(entry.get("call") == "plain" for entry in entries)
        return dict(units)

    def processor(self) -> float:
        """Return the seconds that children have used, and the server with its own."""
        used = resource.getrusage(resource.RUSAGE_CHILDREN)
        seconds = used.ru_utime + used.ru_stime
        if self.name == "sccache":
            for stat in Path("/proc").glob("[0-9]*/stat"):
                text = stat.read_text()
                if (
                    text.partition("(")[2].startswith("sccache)")
                    and self.sccache in (stat.parent / "cmdline").read_text()
                ):
                    seconds += sum(map(int, text.rpartition(")")[2].split()[11:15])) / os.sysconf("SC_CLK_TCK")
        return seconds


def folder_name(label: str) -> str:
    """Return the folder of a list's objects."""
    return label.replace(",", "").replace(" ", "-")


def run_list(tool: Tool, build: Path, files: list[Source], label: str, same_list: list[str]) -> Row:
    """Compile the files for a list of architectures, as many at a time as there are processors."""
    outputs = tool.folder / folder_name(label)
    outputs.mkdir()

    def compile_one(source: Source) -> float | None:
        argv = tool.command(source.argv(LISTS.get(label, ("90",)), outputs / f"{source.name}.o"), same_list)
        said = outputs / f"{source.name}.said"
        with said.open("wb") as file:
            process = subprocess.Popen(argv, cwd=build, env=tool.environment, stdout=file, stderr=file)
            _, status, used = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        return None if process.returncode else used.ru_utime + used.ru_stime

    before, used, began = Counter(tool.compiled()), tool.processor(), time.monotonic()
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        seconds = dict(zip((source.name for source in files), pool.map(compile_one, files), strict=True))
    wall = time.monotonic() - began
    after = Counter(tool.compiled())
    after.subtract(before)
    compiled = " ".join(f"{name.replace(' ', '_')}={count}" for name, count in sorted(after.items()) if count)
    used_by = [seconds[source.name] for source in files]

    def first(many: int) -> float | None:
        known = [used for used in used_by[:many] if used is not None]
        return round(sum(known), 1) if len(known) == many and tool.name != "sccache" else None

    processor = round(tool.processor() - used, 1)
    failed = used_by.count(None)
    return Row(tool.name, label, len(files), failed, round(wall, 1), processor, first(10), first(24), compiled)


def main() -> None:
    """Measure, and compare."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("build", type=Path)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--sccache", default="sccache")
    parser.add_argument("--costs", type=Path, default=Path(__file__).parent / "results" / "cuda_objects.csv")
    parser.add_argument("--only", action="append", choices=TOOLS)
    parser.add_argument("--files", type=int, help="take the first FILES of the sample")
    arguments = parser.parse_args()
    names, flash = drawn(arguments.build, arguments.costs)
    if arguments.files:
        names, flash = names[: arguments.files], []
    files, attention = sources(arguments.build, names), sources(arguments.build, flash)
    arguments.folder.mkdir(parents=True, exist_ok=True)
    rows: list[Row] = []
    tools = {name: Tool(name, arguments.folder / name, arguments.sccache) for name in arguments.only or TOOLS}
    asked = subprocess.run(
        [LAUNCHER, "--identify", NVCC, "/usr/bin/cuda-g++"], check=True, stdout=subprocess.PIPE, text=True
    )
    archs = asked.stdout.strip().partition(":")[2].replace(",", "\\,")
    same_list = ["-U__CUDA_ARCH_LIST__", f"-D__CUDA_ARCH_LIST__={archs}"]
    for name, tool in tools.items():
        for label in LISTS:
            part = name == "ccache" and label != "a sixth added"
            rows.append(run_list(tool, arguments.build, files[:PART] if part else files, label, same_list))
            print(rows[-1], flush=True)
            keep(arguments.folder / "per_arch.csv", rows)
    if {"nvcc-per-arch", "ccache"} <= tools.keys():
        compare(arguments.folder, list(LISTS), files)
        with ThreadPoolExecutor(2) as pool:  # an hour of processor: not for the table
            list(
                pool.map(
                    lambda name: run_list(tools[name], arguments.build, attention, FLASH_LIST, same_list), TOOLS[:2]
                )
            )
        compare(arguments.folder, [FLASH_LIST], attention)


def keep(path: Path, rows: list[Row]) -> None:
    """Write the table."""
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, [one.name for one in fields(Row)], lineterminator="\n")
        writer.writeheader()
        writer.writerows(map(asdict, rows))


def compare(folder: Path, labels: list[str], files: list[Source]) -> None:
    """Compare each object that both have made, and add what differs to `same.json`."""
    result = folder / "same.json"
    found = json.loads(result.read_text(encoding="utf-8")) if result.exists() else {}

    def compare_one(pair: tuple[Path, Path]) -> list[str]:
        try:
            return differences(*pair)
        except (OSError, subprocess.SubprocessError, IndexError, ValueError) as error:
            return [f"not compared: {error}"]

    for label in labels:
        pairs = {
            source.name: tuple(folder / tool / folder_name(label) / f"{source.name}.o" for tool in TOOLS[:2])
            for source in files
        }
        pairs = {name: pair for name, pair in pairs.items() if all(path.exists() for path in pair)}
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            found[label] = dict(zip(pairs, pool.map(compare_one, pairs.values()), strict=True))
        differ = {name: what for name, what in found[label].items() if what}
        print(f"{label}: {len(pairs) - len(differ)} of {len(pairs)} are equal; {differ}", flush=True)
        result.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
