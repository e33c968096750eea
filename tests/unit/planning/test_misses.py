"""Why objects were no hits, by the real ccache, the launcher and a compiler; and how people read it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sysconfig
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

import imagetiers
from imagetiers.building.jobs import last_compile, measured
from imagetiers.ccache.call_log import Call, Outcome
from imagetiers.planning.commands import CALL_LOG, JOB_LOG
from imagetiers.planning.last_compile import LastCompile, Missed, Why
from imagetiers.planning.misses import explain_misses
from imagetiers.planning.objects import KnownObject, KnownObjects, learn
from imagetiers.report.misses import misses_text
from tests.conftest import HERE, Golden

CCACHE = Path(sysconfig.get_path("scripts")) / "ccache"
SOURCE = Path(imagetiers.__file__).parent / "building" / "job.c"

needs_compiler = pytest.mark.skipif(shutil.which("cc") is None, reason="no C compiler")


@dataclass
class Step:
    """A compile step that calls the real ccache in a folder of its own."""

    folder: Path
    known: KnownObjects = field(default_factory=KnownObjects)
    flags: tuple[str, ...] = ()

    def write(self, name: str, text: str) -> None:
        path = self.folder / name
        path.write_text(text)
        os.utime(path, (1_700_000_000, 1_700_000_000))  # ccache does not believe what is as new as its call

    def compile(self, *names: str, toolchain: str = "") -> LastCompile:
        left = self.folder / "left"
        shutil.rmtree(left, ignore_errors=True)
        left.mkdir()
        environment = {
            "PATH": os.environ["PATH"],
            "HOME": str(self.folder),
            "CCACHE_DIR": str(self.folder / "ccache"),
            "CCACHE_LOGFILE": str(left / CALL_LOG),
            "CCACHE_PREFIX": str(self.folder / "job"),
            "CCACHE_COMPILERCHECK": "none",
            "IMAGETIERS_JOB_LOG": str(left / JOB_LOG),
        }
        for name in names:
            command = [str(CCACHE), "cc", *self.flags, "-c", f"{name}.c", "-o", f"{name}.o"]
            subprocess.run(command, cwd=self.folder, env=environment, check=True)
        done = measured(left, self.known, self.folder / "ccache")
        last = last_compile("0123456789abcdef", 1000.0, done, self.known, toolchain)
        self.known = KnownObjects.decode(learn(self.known, done.jobs, done.calls, 1000.0, last).encode())
        assert self.known.last is not None
        return self.known.last


@pytest.fixture
def step(tmp_path: Path) -> Step:
    subprocess.run(["cc", "-O1", "-o", tmp_path / "job", SOURCE], check=True)
    made = Step(tmp_path)
    made.write("one.h", "#define ONE 1\n")
    made.write("two.h", "#define TWO 2\n")
    made.write("a.c", '#include "one.h"\n#include "two.h"\nint a(void) { return ONE + TWO; }\n')
    made.write("b.c", '#include "two.h"\nint b(void) { return TWO; }\n')
    return made


def reasons(last: LastCompile) -> dict[str, tuple[Why, str]]:
    return {Path(one.object).name: (one.why, one.detail) for one in last.missed}


@needs_compiler
def test_each_reason_by_the_real_ccache(step: Step) -> None:
    first = step.compile("a")
    assert reasons(first) == {"a.o": (Why.NEVER, "")}
    assert all(one.seconds > 0 for one in first.missed)

    again = step.compile("a", "b")
    assert reasons(again) == {"b.o": (Why.NEVER, "")}
    assert (again.hits, again.misses) == (1, 1)

    step.write("one.h", "#define ONE 11\n")
    assert reasons(step.compile("a", "b")) == {"a.o": (Why.HEADER, "one.h")}
    step.write("two.h", "#define TWO 22\n")
    assert reasons(step.compile("a", "b")) == {"a.o": (Why.HEADER, "two.h"), "b.o": (Why.HEADER, "two.h")}

    step.write("b.c", '#include "two.h"\nint b(void) { return TWO + 1; }\n')
    assert reasons(step.compile("a", "b")) == {"b.o": (Why.SOURCE, "")}

    step.flags = ("-O1", "-DX")
    flags = reasons(step.compile("a"))
    assert flags == {"a.o": (Why.FLAGS, "+ -O1, + -DX")}
    step.flags = ("-O2", "-DX")
    assert reasons(step.compile("a")) == {"a.o": (Why.FLAGS, "+ -O2, - -O1")}

    shutil.rmtree(step.folder / "ccache")
    assert reasons(step.compile("a")) == {"a.o": (Why.EVICTED, "")}
    shutil.rmtree(step.folder / "ccache")
    assert reasons(step.compile("a", toolchain="cc 12.2 -> 14.2")) == {"a.o": (Why.TOOLCHAIN, "cc 12.2 -> 14.2")}
    assert step.compile("a").missed == ()


def test_the_host_half_misses_for_its_units_reason() -> None:
    folder = "/b/k.cu.o.units"
    known = KnownObject(1.0, 1, 1.0)
    before = KnownObjects({f"{folder}/sm_90.o": known, f"{folder}/host.o": known})
    device = Call(f"{folder}/sm_90.o", "k.cu", Outcome.MISS, manifest="k", changed=("kernels.h",))
    missed = explain_misses([device, Call(f"{folder}/host.o", "k.cu", Outcome.MISS)], [], before, "")
    assert [(one.why, one.detail) for one in missed] == [(Why.HEADER, "kernels.h"), (Why.HEADER, "kernels.h")]


def test_a_document_of_others_is_read_without_surprises() -> None:
    last = LastCompile("k", 1.0, 2, 3, 4.5, 1.5, (Missed("/a.o", "a.c", Why.HEADER, "a.h", 1.5),))
    assert LastCompile.read(last.document()) == last
    assert LastCompile.read({**last.document(), "hits": "2"}) is None
    assert LastCompile.read({**last.document(), "missed": [[1], ["/a.o", "a.c", "NOBODY", "", 1]]}) == replace(
        last, missed=()
    )


def test_how_people_read_it(golden: Golden) -> None:
    missed = (
        *(Missed(f"/src/build/ops/op{n}.o", f"op{n}.cpp", Why.HEADER, "/src/ops/op.h", 10.0 + n) for n in range(7)),
        Missed("/src/build/k.cu.o.units/sm_90.o", "k.cu", Why.NEVER, "", 120.0),
        Missed("/src/build/main.o", "main.cpp", Why.SOURCE, "", 2.0),
        Missed("/src/build/flags.o", "flags.cpp", Why.FLAGS, "+ -O3, - -O2", 3.0),
        Missed("/src/build/gone.o", "gone.cpp", Why.EVICTED, "", 1.0),
    )
    texts = [
        misses_text("pytorch-clean", LastCompile("329eb6f27d5368c0", 1000.0, 40, 13, 1200.0, 219.4, missed), 1600.0),
        misses_text("kernels", LastCompile("0123456789abcdef", 1000.0, 40, 0), 1600.0),
        misses_text("native", None, 1600.0),
    ]
    golden("\n".join(texts) + "\n", HERE / "golden" / "explain" / "objects.txt")
