"""What is said of libraries that do not hold what GPUs were promised: each kind of mistake, and none too many."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import replace
from datetime import date
from pathlib import Path

import pytest

from imagetiers.binaries.device_code import Amount, DeviceCode, read_elf
from imagetiers.config.gpus import Architecture, Target, architecture
from imagetiers.config.layout import Layout
from imagetiers.inputs.repository import load_repository
from imagetiers.layers.model import FileEntry, FileKind
from imagetiers.planning.device_code import (
    DeviceLibrary,
    DevicePromise,
    device_libraries,
    judge,
    made_by_others,
    promise,
)
from imagetiers.planning.make import make_plan
from imagetiers.planning.plan import DeviceCheck
from imagetiers.report.device_code import device_lines
from tests.conftest import HERE, Golden

FILES = HERE / "binaries" / "files"
GPUS = ("A100", "L4", "H100")


def architectures(text: str) -> tuple[Architecture, ...]:
    return tuple(known for word in text.split() if (known := architecture(word)) is not None)


def targets(text: str) -> tuple[Target, ...]:
    return tuple(each.target for each in architectures(text))


def promised(text: str, *others: str, gpus: tuple[str, ...] = GPUS) -> DevicePromise:
    return promise(DeviceCheck(text.replace(" ", ";"), gpus, others))


def library(name: str) -> DeviceLibrary:
    code = read_elf((FILES / name).read_bytes())
    (found,) = device_libraries([FileEntry(f"/usr/lib/{name}", FileKind.FILE, 0o644, device_code=code)])
    return found


NVIDIAS = DeviceLibrary("/venv/nvidia/cudnn/lib/libcudnn_ops.so.9", targets("7.0 7.5"))
CASES = {
    "all that was promised": ["lz4.so", "plain.so", "zstd.so"],
    "an architecture is missing": ["lz4.so", "ampere.so"],
    "PTX only": ["ptx.so"],
    "stripped": ["zstd.so", "stripped.so"],
    "the CPU's PyTorch": [],
}


def cases() -> Iterator[str]:
    made = promised("8.0 9.0")
    for title, names in CASES.items():
        found = [library(name) for name in names] + [NVIDIAS]
        yield f"== {title}"
        yield from map(str, judge(made, found, "verify:pytorch-clean"))
        yield from device_lines(made, found)
    unreadable = DeviceLibrary("/usr/lib/cut.so", error="a section lies beyond its end")
    yield "== unreadable"
    yield from map(str, judge(made, [unreadable], "verify:pytorch-clean"))


def test_what_is_said(golden: Golden) -> None:
    golden("\n".join(cases()) + "\n", HERE / "golden" / "device-code.txt")


def test_better_than_promised_is_no_mistake() -> None:
    compiled_at_start = promised("8.0+PTX", gpus=("H100",))

    assert str(compiled_at_start.gpus["H100"]) == "compute_80's PTX, compiled at start"
    assert list(judge(compiled_at_start, [library("lz4.so")], "")) == []
    assert len(list(judge(promised("9.0", gpus=("H100",)), [library("ptx.so")], ""))) == 1


def test_what_others_have_compiled_is_not_judged() -> None:
    found = [library("lz4.so"), library("ampere.so")]

    assert len(list(judge(promised("8.0 9.0"), found, ""))) == 1
    assert list(judge(promised("8.0 9.0", "*/ampere.so"), found, "")) == []


@pytest.mark.parametrize(
    ("path", "others"),
    [
        ("/opt/nvidia/lib/libcublasLt.so.12", True),
        ("/usr/lib/x86_64-linux-gnu/libcudnn_engines_precompiled.so.9.1.0", True),
        ("/venv/torchvision.libs/libnvjpeg.02b6d700.so.12", True),
        ("/venv/torch/lib/libcudart-8774224f.so.12", True),
        ("/venv/torch/lib/libtorch_cuda.so", False),
        ("/venv/torch/lib/libc10_cuda.so", False),
        ("/venv/mine/libcublasnt.so", False),
        ("/venv/nvidia/mine/_C.so", False),
    ],
)
def test_nvidias_own_are_known_by_their_names(path: str, others: bool) -> None:  # noqa: FBT001
    assert made_by_others(path) is others


def test_targets_that_nobody_knows_are_an_error() -> None:
    (found,) = device_libraries(
        [FileEntry("/x.so", FileKind.FILE, 0o644, device_code=DeviceCode(sass={"sm_90": Amount(1, 1)}))]
    )
    (damaged,) = device_libraries([FileEntry("/y.so", FileKind.FILE, 0o644, elf_error="it ends early")])

    assert (found.error, damaged.error) == ("unknown targets: sm_90", "it ends early")


def test_all_libraries_are_judged_however_many_there_are() -> None:
    good = [replace(library("lz4.so"), path=f"/usr/lib/{number}.so") for number in range(100)]
    bad = [replace(library("ampere.so"), path=f"/opt/{number}.so") for number in range(100)]
    made = promised("8.0 9.0")

    assert [problem.what[:6] for problem in judge(made, [*good, bad[0]], "")] == ["/opt/0"]
    told = list(judge(made, [*good, *bad], ""))
    assert len(told) == 21
    assert told[-1].what == "and 80 more of the kind, in other libraries"


def test_a_library_for_which_nvcc_was_given_no_kernel_is_no_mistake() -> None:
    code = DeviceCode(registers=True, empty=2)
    empty, gone = device_libraries(
        FileEntry("/usr/lib/host.so", FileKind.FILE, 0o644, device_code=each) for each in (code, replace(code, empty=0))
    )
    made = promised("9.0", gpus=("H100",))

    assert list(judge(made, [library("lz4.so"), empty], "")) == []
    assert "stripped" in str(*judge(made, [library("lz4.so"), gone], ""))
    assert "none of its libraries" in str(*judge(made, [empty], ""))


def test_without_gpus_the_promise_is_to_all_that_can_run_it() -> None:
    assert set(promised("9.0", gpus=()).gpus) == {"H100", "H200", "GH200"}


def checks(root: Path, variant: str | None = None) -> dict[str, DeviceCheck | None]:
    plan = make_plan(load_repository(Layout(root), variant), date(2026, 11, 29))
    return {name: tier.verify.device for name, tier in plan.tiers.items()}


def test_children_are_checked_as_their_parents_are(tmp_path: Path) -> None:
    shutil.copytree(HERE / "repos" / "device", tmp_path, dirs_exist_ok=True)
    shutil.copy(FILES / "lz4.so", tmp_path / "images/extension/extension.so")
    (tmp_path / "images/child").mkdir()
    (tmp_path / "images/child/.image-manifest").touch()
    (tmp_path / "images/child/Dockerfile").write_text("ARG PARENT\nFROM ${PARENT}\n")
    pipeline = tmp_path / "pipeline.yaml"
    text = pipeline.read_text() + "  child: {parent: extension, verify: {device_code: {others: [OTHERS]}}}\n"

    pipeline.write_text(text.replace("OTHERS", "/opt/a.so"))
    assert checks(tmp_path) == {
        "extension": DeviceCheck("8.0;9.0", ("A100", "H100")),
        "child": DeviceCheck("8.0;9.0", ("A100", "H100"), ("/opt/a.so",)),
    }
    pipeline.write_text(text.replace("OTHERS", '"*"'))
    assert checks(tmp_path)["child"] is None


def test_this_repositorys_own_images_are_checked_where_they_are_for_gpus() -> None:
    assert set(checks(HERE.parent, "cuda").values()) == {DeviceCheck("9.0", ("H100",))}
    assert set(checks(HERE.parent, "cpu").values()) == {None}
    assert None not in checks(HERE.parent).values()
