"""The whole text of what a wrong pipeline says, held by golden files.

Each file in tests/golden/errors is a list of `-- path --` sections that are laid over tests/repos/tiny (an empty section
removes the file), and ends with what is expected.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from imagetiers.config.layout import Layout
from imagetiers.errors import PipelineError
from imagetiers.inputs.repository import load_repository
from tests.conftest import HERE, Golden

CASES = sorted((HERE / "golden" / "errors").glob("*.txt"))
EXPECTED = "-- expected --\n"


def sections(text: str) -> dict[str, str]:
    parts = re.split(r"^-- (.+?) --\n", text, flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.stem)
def test_text_of_a_wrong_pipeline(case: Path, tiny: Layout, golden: Golden) -> None:
    given, _, _ = case.read_text(encoding="utf-8").partition(EXPECTED)
    for path, content in sections(given).items():
        target = tiny.root / path
        if content:
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text(content, encoding="utf-8")
        else:
            target.unlink()

    with pytest.raises(PipelineError) as error:
        load_repository(tiny, None)

    golden(f"{given}{EXPECTED}{error.value}\n", case)


def test_there_are_cases() -> None:
    assert len(CASES) > 15


HOSTILE = {
    "billion laughs": b"a: &a [x,x]\nb: &b [*a,*a]\nc: [*b,*b]\n",
    "ten megabytes": b"name: " + b"x" * 10_000_000,
    "deep nesting": b"[" * 200_000,
    "deep mapping": b"\n".join(b" " * i + b"a:" for i in range(100)),
    "python tag": b"version: !!python/object/apply:os.system ['true']\n",
    "binary tag": b"version: !!binary aGk=\n",
    "latin-1": b"name: caf\xe9\n",
    "utf-16": "version: 1\n".encode("utf-16"),
    "nul": b"version: 1\0\n",
    "two documents": b"version: 1\n---\nversion: 1\n",
    "not a mapping": b"- version\n",
    "empty": b"",
    "many values": b"[" + b"1," * 200_000 + b"1]",
    "complex key": b"? [a, b]\n: c\n",
    "merge key": b"version: 1\n<<: {name: x}\n",
    "unclosed": b'name: "x\n',
    "tab": b"version:\n\t- 1\n",
}


@pytest.mark.parametrize("data", HOSTILE.values(), ids=HOSTILE.keys())
def test_a_hostile_pipeline_gets_an_error(data: bytes, tiny: Layout) -> None:
    tiny.pipeline.write_bytes(data)

    with pytest.raises(PipelineError) as error:
        load_repository(tiny, None)

    assert all(problem.where.startswith("pipeline.yaml") for problem in error.value.problems)
    assert len(str(error.value)) < 2000


def test_an_unknown_variant_is_named_with_the_known_ones(tiny: Layout) -> None:
    with pytest.raises(PipelineError) as error:
        load_repository(tiny, "shoutin")

    assert str(error.value) == "variant=shoutin: there is no such variant\n  hint: did you mean 'shouting'?"


def test_no_pipeline_at_all(tmp_path: Path) -> None:
    with pytest.raises(PipelineError) as error:
        load_repository(Layout(tmp_path), None)

    assert (
        str(error.value)
        == "pipeline.yaml: there is no such file\n  hint: run doit where it is; imagetiers init writes one"
    )
