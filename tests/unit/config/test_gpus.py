"""What compiled code runs on: the rules, held against what NVIDIA writes and by properties; and the texts made of them."""

from __future__ import annotations

import ast
import json
from collections.abc import Collection
from dataclasses import replace
from datetime import date
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imagetiers.config import cuda_facts
from imagetiers.config.gpus import (
    GPUS,
    Architecture,
    Capability,
    How,
    Target,
    arch_list,
    architecture,
    architectures_of,
    cuda_targets,
    driver_for,
    fit,
    nearest_gpu,
    ptx_of,
    read_arch_list,
    redundant,
    sass_of,
    torch_targets,
)
from imagetiers.config.layout import Layout
from imagetiers.inputs.repository import load_repository
from imagetiers.planning.gpus import Compiled, compiled_for
from imagetiers.planning.make import make_plan
from imagetiers.planning.plan import Recipe
from imagetiers.report.gpus import gpu_document, gpu_line, gpu_lines
from tests.conftest import HERE, Golden

ALL = sorted({target for version in cuda_facts.TARGETS for target in cuda_targets(version) or ()})
CAPABILITIES = sorted(set(GPUS.values()) | {target.capability for target in ALL})
targets = st.sets(st.sampled_from(ALL), max_size=6)
capabilities = st.sampled_from(CAPABILITIES)


def t(text: str) -> Target:
    found = architecture(text)
    assert found is not None
    return found.target


def how(gpu: str, sass: str = "", ptx: str = "") -> str:
    return str(fit(t(gpu).capability, map(t, sass.split()), map(t, ptx.split())))


@pytest.mark.parametrize(
    ("gpu", "sass", "ptx", "said"),
    [
        # NVIDIA Ada Compatibility Guide: 8.6 runs on 8.9; 8.9 not on 8.6; 8.x not on 9.0.
        ("8.9", "8.6", "", "runs sm_86's code"),
        ("8.9", "8.0 8.6", "", "runs sm_86's code"),
        ("8.6", "8.9", "", "cannot run"),
        ("9.0", "8.0 8.6 8.9", "", "cannot run"),
        ("8.9", "8.0 8.6 8.9", "8.0", "native"),
        # CUDA's guide: PTX for 9.x runs on 9.x and any higher one, 10.0 among them. It is taken where machine code is not.
        ("10.0", "9.0", "9.0", "compute_90's PTX, compiled at start"),
        ("10.0", "9.0", "8.0 9.0", "compute_90's PTX, compiled at start"),
        ("8.9", "8.6", "8.9", "runs sm_86's code"),
        ("8.0", "9.0", "9.0", "cannot run"),
        # `a`: on the exact capability, machine code and PTX alike.
        ("9.0", "9.0a", "", "native"),
        ("10.0", "9.0a", "9.0a", "cannot run"),
        ("10.3", "10.0a", "10.0a", "cannot run"),
        # `f`: table "Family-Specific Compatibility".
        ("10.3", "10.0f", "", "runs sm_100f's code"),
        ("10.0", "10.3f", "", "cannot run"),
        ("12.1", "12.0f", "", "runs sm_120f's code"),
        ("12.0", "10.0f", "10.0f", "cannot run"),
        ("10.3", "9.0", "10.0f", "compute_100f's PTX, compiled at start"),
        # Tegra: neither among them, nor with others; PTX is compiled there, too.
        ("8.7", "8.0 8.6", "", "cannot run"),
        ("8.9", "8.7", "", "cannot run"),
        ("8.7", "8.0 8.7", "", "native"),
        ("8.7", "8.0", "8.0", "compute_80's PTX, compiled at start"),
        ("9.0", "", "", "cannot run"),
    ],
)
def test_what_runs_where(gpu: str, sass: str, ptx: str, said: str) -> None:
    assert how(gpu, sass, ptx) == said


@given(capabilities, targets, targets, st.sampled_from(ALL))
def test_an_architecture_more_never_makes_a_gpu_worse(
    gpu: Capability, sass: set[Target], ptx: set[Target], more: Target
) -> None:
    order = list(How)
    before = order.index(fit(gpu, sass, ptx).how)
    assert order.index(fit(gpu, sass | {more}, ptx).how) <= before
    assert order.index(fit(gpu, sass, ptx | {more}).how) <= before


@given(capabilities, targets, targets)
def test_a_fit_tells_the_truth(gpu: Capability, sass: set[Target], ptx: set[Target]) -> None:
    """It names a target that is there and that does it alone; native means its own; `a` code serves nobody else."""
    found = fit(gpu, sass, ptx)
    if found.how is How.NOT:
        assert found.target is None
        assert not any(fit(gpu, [target], [target]).target for target in sass & ptx)
        return
    assert found.target in (ptx if found.how is How.PTX else sass)
    assert found.target is not None
    assert (found.how is How.NATIVE) == (found.how is not How.PTX and found.target.capability == gpu)
    if found.target.suffix == "a":
        assert found.target.capability == gpu


@given(targets, targets, st.lists(capabilities, max_size=6))
def test_what_is_redundant_can_be_left_out_together(
    sass: set[Target], ptx: set[Target], gpus: list[Capability]
) -> None:
    needless = redundant(sass, ptx, gpus)
    kept = sass - set(needless)

    assert not any(target.suffix or target in ptx for target in needless)
    assert redundant(kept, ptx, gpus) == {}
    for gpu in gpus:
        before, after = fit(gpu, sass, ()), fit(gpu, kept, ())
        assert (before.how is How.NOT) == (after.how is How.NOT)
        if before.target in needless:
            assert after.how is How.COMPATIBLE
            assert after.target == needless[before.target] or (after.target is not None and after.target.suffix)


def test_what_is_redundant() -> None:
    def found(sass: str, gpus: str, ptx: str = "") -> dict[str, str]:
        needless = redundant(
            [t(text) for text in sass.split()],
            [t(text) for text in ptx.split()],
            [t(gpu).capability for gpu in gpus.split()],
        )
        return {str(target): str(instead) for target, instead in needless.items()}

    assert found("7.5 8.0 8.6 8.9 9.0", "7.5 8.0 8.6 8.9 9.0") == {"8.6": "8.0", "8.9": "8.0"}
    assert found("8.0 8.6", "8.9") == {"8.0": "None"}  # what nobody runs goes first: the nearer code stays
    assert found("8.0 8.6 8.9", "8.0 8.9", ptx="8.6") == {"8.9": "8.6"}
    assert found("9.0 9.0a", "9.0") == {}
    assert found("8.0 8.7", "8.0 8.7") == {}


def test_spellings() -> None:
    assert [str(architecture(text)) for text in ("8.9", "8.9+PTX", "9.0a+ptx", "12.0f")] == [
        "8.9",
        "8.9+PTX",
        "9.0a+PTX",
        "12.0f",
    ]
    wrong = ("", "8", "89", "8.9+", "8.9+PTX+PTX", "9.0b", "A100", "8.10", "8.9 ", "\uff18.9", "sm_80", "100.0")
    assert [text for text in wrong if architecture(text)] == []
    assert nearest_gpu("sm_80") == 'write "8.0"'
    assert nearest_gpu("sm_100a") == 'write "10.0a"'
    assert nearest_gpu("compute_90") == 'write "9.0" with "+PTX" behind it'
    assert (t("9.0a").sass, t("10.0").ptx) == ("sm_90a", "compute_100")


ARCHITECTURES = st.builds(Architecture, st.sampled_from(ALL), st.booleans())


@given(st.sets(ARCHITECTURES, min_size=1))
def test_an_arch_list_is_read_as_it_is_written(architectures: Collection[Architecture]) -> None:
    whole = tuple(sorted(architectures))
    assert read_arch_list(arch_list(whole)) == whole
    assert read_arch_list(arch_list(whole).replace(";", " ")) == whole


def test_a_list_that_only_pytorch_reads() -> None:
    assert read_arch_list("8.0;Ampere") is None
    assert read_arch_list("") is None


def pytorch_flags(text: str, known: str) -> list[str]:
    """What torch.utils.cpp_extension makes of TORCH_CUDA_ARCH_LIST: nothing but a split, an allowlist and `+PTX`."""
    valid = [each + more for each in known.split() for more in ("", "+PTX")]
    flags = []
    for arch in text.replace(" ", ";").split(";"):
        assert arch in valid, arch
        number = arch.partition("+")[0].replace(".", "")
        flags.append(f"compute_{number},sm_{number}")
        if arch.endswith("+PTX"):
            flags.append(f"compute_{number},compute_{number}")
    return flags


@given(
    st.sets(st.builds(Architecture, st.sampled_from(sorted(torch_targets("2.6.0") or ())), st.booleans()), min_size=1)
)
def test_pytorch_makes_of_it_what_is_meant(architectures: Collection[Architecture]) -> None:
    whole = sorted(architectures)
    flags = pytorch_flags(arch_list(whole), cuda_facts.TORCH_ARCHITECTURES["2.6.0"])
    assert {flag.partition(",")[2] for flag in flags} == {each.sass for each in sass_of(whole)} | {
        each.ptx for each in ptx_of(whole)
    }


def test_gpus_without_architectures_are_compiled_for_by_themselves() -> None:
    assert arch_list(architectures_of(["H100", "T4", "A100", "L4", "RTX-3090", "H200"])) == "7.5;8.0;8.6;8.9;9.0"


def test_toolkits() -> None:
    assert cuda_targets((12, 5)) == cuda_targets((12, 4))
    assert cuda_targets((10, 2)) is None
    assert cuda_targets((14, 0)) is None
    assert {"9.0a"} == {str(target) for target in cuda_targets((12, 4)) or () if target.suffix}
    assert t("10.0") not in (cuda_targets((12, 6)) or ())
    assert t("10.0") in (cuda_targets((12, 8)) or ())
    assert min(cuda_targets((13, 0)) or ()) == t("7.5")
    assert torch_targets("1.0.0") is None
    assert driver_for((12, 4), ptx=False) == "525"
    assert driver_for((12, 4), ptx=True) == "550.54.14"
    assert driver_for((10, 2), ptx=False) is driver_for((13, 2), ptx=True) is None


def test_the_facts_fit_together() -> None:
    """A family's target runs on itself; every GPU's capability is one that some toolkit compiles for; Tegra is known."""
    for family, members in cuda_facts.FAMILIES.items():
        assert str(t(family).capability) in members.split()
    known = {target.capability for target in ALL}
    assert set(GPUS.values()) <= known
    assert {t(text).capability for text in cuda_facts.TEGRA.split()} <= known


def compiled(tiny: Layout, gpus: str, args: str = "") -> tuple[Compiled, ...]:
    """Plan the tiny pipeline with these gpus; its Dockerfile declares the list."""
    dockerfile = tiny.root / "images" / "pytorch-clean" / "Dockerfile"
    text = dockerfile.read_text()
    dockerfile.write_text(text.replace("AS builder\n", "AS builder\nARG TORCH_CUDA_ARCH_LIST\n", 1))
    pipeline = tiny.root / "pipeline.yaml"
    text = pipeline.read_text().replace("stage: builder", 'stage: builder, cuda: "12.4"', 1)
    pipeline.write_text(
        text.replace("name: tiny", f"name: tiny\ngpus: [{gpus}]", 1).replace(
            "GREETING: hello", f"GREETING: hello{args}", 1
        )
    )
    plan = make_plan(load_repository(tiny, None), date(2026, 1, 1))
    return compiled_for(replace(plan, tiers={name: replace(each, recipe=unread) for name, each in plan.tiers.items()}))


def unread() -> Recipe:
    """Refuse to say what an image is made of: of ten thousand tiers that is 60 MB, and `check` and `plan` ask this."""
    raise AssertionError("the recipe is read")


TEXTS = {
    "by name": ("T4, A100, RTX-3090, L4, H100", ""),
    "architectures": ('T4, A100, L4, H100, B200, JETSON-ORIN, "7.5", "8.0+PTX", "9.0a"', ""),
    "none runs it": ('A100, "7.5", "8.0", "9.0+PTX"', ""),
    "no gpu is named": ('"8.6", "9.0+PTX"', ""),
    "a tier's own list": ("L4, H100", ', TORCH_CUDA_ARCH_LIST: "8.0 9.0+PTX"'),
}


def test_the_texts(tiny: Layout, golden: Golden) -> None:
    pipeline, dockerfile = tiny.root / "pipeline.yaml", tiny.root / "images" / "pytorch-clean" / "Dockerfile"
    before = pipeline.read_text(), dockerfile.read_text()
    lines = []
    for title, (gpus, args) in TEXTS.items():
        pipeline.write_text(before[0])
        dockerfile.write_text(before[1])
        for each in compiled(tiny, gpus, args):
            lines += [f"== {title}", *gpu_lines(each), f"-- {gpu_line(each)}"]
    golden("\n".join(lines) + "\n", HERE / "golden" / "gpus.txt")


def test_as_json(tiny: Layout) -> None:
    (found,) = compiled(tiny, 'L4, H100, B200, "8.0", "9.0+PTX"')
    document = json.loads(json.dumps(gpu_document(found)))
    assert document["arch_list"] == "8.0;9.0+PTX"
    assert (document["cuda"], document["driver"], document["driver_for_ptx"]) == ("12.4", "525", "550.54.14")
    assert document["device_compiles"] == 3
    assert [(each["gpu"], each["how"], each["target"]) for each in document["gpus"]] == [
        ("L4", "compatible", "8.0"),
        ("H100", "native", "9.0"),
        ("B200", "ptx", "9.0"),
    ]
    assert document["redundant"] == []


def test_the_check_inside_the_image_has_the_same_rules() -> None:
    """`verify.py` cannot import this package; what it refuses on a device must be what `doit check` has refused before."""
    script = ast.parse((HERE.parent / "images" / "pytorch-clean" / "verify.py").read_text(encoding="utf-8"))
    [function] = [node for node in script.body if isinstance(node, ast.FunctionDef) and node.name == "runs_on"]
    names: dict[str, Any] = {}
    exec(compile(ast.Module([function], []), "verify.py", "exec"), names)  # noqa: S102  it is ours
    targets = [
        a.target for text in ("7.0", "7.5", "8.0", "8.6", "8.9", "9.0", "9.0a", "12.0") if (a := architecture(text))
    ]
    for gpu in map(GPUS.__getitem__, ("V100", "T4", "A100", "A10", "L4", "H100", "RTX-5090")):
        number = 10 * gpu.major + gpu.minor
        for target in targets:
            assert names["runs_on"](target.sass, number) == (fit(gpu, [target], []).how is not How.NOT), (target, gpu)
            assert names["runs_on"](target.ptx, number) == (fit(gpu, [], [target]).how is not How.NOT), (target, gpu)
