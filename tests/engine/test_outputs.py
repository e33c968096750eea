"""Outputs beside wheels, through ccache: what it and the launcher write lies apart from what is kept."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import HERE
from tests.engine.conftest import Checkout, make_checkout, remove_all


@pytest.fixture
def cpp(tmp_path: Path) -> Iterator[Checkout]:
    made = make_checkout(HERE / "repos" / "cpp", tmp_path / "checkout")
    made.edit("pipeline.yaml", "      run: compile-all\n", '      run: compile-all\n      outputs: ["*.whl", logs/]\n')
    made.edit("pipeline.yaml", "      stage: builder\n", "      stage: builder\n      wheels_stage: wheels\n")
    script = "images/native/compile-all"
    text = (made.root / script).read_text()
    (made.root / script).write_text(f'{text}\nmkdir "$OUTPUTS_DIR/logs"\necho all >"$OUTPUTS_DIR/logs/.all"\n')
    yield made
    remove_all(made)


def test_outputs_and_a_compiler_cache(cpp: Checkout) -> None:
    cold = cpp.doit("image")
    warm = cpp.doit("compile:native", "--rebuild")

    assert cold.code == 0, cold.text
    assert warm.code == 0, warm.text
    assert "8 of 8 compiler calls were hits (100.0 %)" in warm.out
    folder = next((cpp.root / ".imagetiers" / "wheels").iterdir())
    assert sorted(path.name for path in folder.iterdir()) == ["outputs", "outputs.json"]
    assert sorted(str(path.relative_to(folder)) for path in (folder / "outputs").rglob("*")) == [
        "outputs/logs",
        "outputs/logs/.all",
        *(f"outputs/{path.name}" for path in sorted((folder / "outputs").glob("*.whl"))),
    ]
    assert cpp.doit().executed == ["verify:native"]
