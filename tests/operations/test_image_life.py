"""image:<tier> from beginning to end; the engine and the registry are tables, the cache, the locks and the files are real."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from imagetiers.config.layout import Layout
from imagetiers.errors import BuildError, EngineError, PipelineError, RegistryError
from imagetiers.operations.image import ensure_image
from tests.conftest import edit
from tests.operations.engine import Machine, machine
from tests.planning.world import HOST, sha256


@pytest.fixture
def here(tiny: Layout, tmp_path: Path) -> Machine:
    made = machine(tiny, tmp_path / "cache")
    made.compile()
    made.engine.made.clear()
    made.engine.builds.clear()
    made.console.lines.clear()
    return made


def ensure(here: Machine, name: str = "pytorch-clean", *, force: bool = False) -> None:
    session = here.session
    ensure_image(session, session.plan.tiers[name], force=force)


def test_it_is_built_once_of_its_wheels(here: Machine) -> None:
    ensure(here)
    ensure(here)

    assert here.engine.made == ["image:pytorch-clean"]
    (build,) = here.engine.builds
    assert build.contexts == {"wheels": str(here.layout.wheels(here.step.key))}
    assert build.tags == (here.tier.ref,)
    assert not build.no_cache
    assert "image:pytorch-clean:" in here.said
    records = [json.loads(here.store.read(blob.name)[0]) for blob in here.store.list("records/pytorch-clean/image/")]
    assert [(record["key"], record["size"]) for record in records] == [(here.tier.key, 100)]


def test_rebuilt_it_is_built_without_layers_of_before(here: Machine) -> None:
    ensure(here)
    ensure(here, force=True)

    assert [build.no_cache for build in here.engine.builds] == [False, True]


def test_a_child_is_built_from_its_parent_here(here: Machine) -> None:
    ensure(here)
    ensure(here, "arr-base")

    assert here.engine.builds[-1].args["PARENT"] == here.tier.ref


def test_a_child_without_its_parent_is_refused(here: Machine) -> None:
    with pytest.raises(BuildError, match="its parent pytorch-clean is not built") as caught:
        ensure(here, "arr-base")

    assert "doit image:pytorch-clean" in str(caught.value)
    assert here.engine.builds == []


def test_without_its_wheels_it_is_refused(here: Machine) -> None:
    (here.layout.wheels(here.step.key) / "tiny-1-py3-none-any.whl").unlink()
    with pytest.raises(BuildError, match="its wheels are not here"):
        ensure(here)

    assert here.engine.builds == []


def test_a_failure_names_its_first_error_and_the_log(here: Machine) -> None:
    here.engine.failing = (
        "#5 [runtime 2/3] RUN pip install",
        "#5 0.3 ERROR: failed to solve",
        "#5 ERROR: exit code: 1",
    )
    with pytest.raises(BuildError) as caught:
        ensure(here)

    log = here.layout.log("pytorch-clean", "image", here.tier.key)
    text = str(caught.value)
    assert "image:pytorch-clean: docker buildx build ended with exit code 1; the first error" in text
    assert "ERROR: failed to solve" in text
    assert f"the full log is {log}" in text
    assert log.read_text() == "\n".join([*here.engine.failing, ""])
    assert not list(here.store.list("records/pytorch-clean/image/"))


def test_an_image_that_went_to_another_builder_is_no_success(here: Machine) -> None:
    here.engine.forgets = True
    with pytest.raises(EngineError, match="the engine does not hold"):
        ensure(here)


def with_a_registry(here: Machine, *, pinned: bool = True) -> None:
    edit("pipeline.yaml", "name: tiny", f"name: tiny\nregistry: {HOST}")(here.layout)
    if pinned:
        here.layout.lock.write_text(f"images:\n  debian:trixie-slim: {sha256('debian')}\n")
    here.compile()
    here.engine.made.clear()
    here.engine.builds.clear()


def test_what_is_published_is_not_built(here: Machine) -> None:
    with_a_registry(here)
    ensure(here)
    here.engine.push(here.tier.ref, here.console.line)
    here.engine.byid.clear()
    here.engine.refs.clear()
    ensure(here)
    ensure(here, "arr-base")

    assert "is in the registry" in here.said
    assert [build.tags[0].rpartition(":")[0] for build in here.engine.builds] == [
        here.session.plan.tiers[name].repository for name in ("pytorch-clean", "arr-base")
    ]
    assert here.engine.builds[-1].args["PARENT"].startswith(f"{here.tier.repository}@sha256:")


def test_nothing_is_built_on_a_guess(here: Machine) -> None:
    with_a_registry(here)
    here.engine.registry.silent.add(here.tier.ref)
    with pytest.raises(RegistryError, match="the registry does not say whether the image is there"):
        ensure(here)
    assert here.engine.builds == []

    ensure(here, force=True)
    assert len(here.engine.builds) == 1


def test_what_is_for_others_is_made_from_pinned_bases_only(here: Machine) -> None:
    edit("pipeline.yaml", "name: tiny", f"name: tiny\nregistry: {HOST}")(here.layout)
    with pytest.raises(PipelineError, match="debian:trixie-slim is not pinned"):
        ensure(here)

    assert here.engine.builds == []
