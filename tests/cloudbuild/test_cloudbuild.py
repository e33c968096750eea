"""The build file: made of the pipeline alone, valid for Cloud Build, and the repository's own are up to date."""

from __future__ import annotations

import base64
import copy
import dataclasses
import shutil
from collections.abc import Callable
from datetime import date
from typing import Any

import pytest
import yaml

from imagetiers.config.layout import Layout
from imagetiers.config.model import Trust
from imagetiers.errors import PipelineError
from imagetiers.inputs.repository import load_repository
from imagetiers.operations.cloudbuild import write_cloudbuild
from imagetiers.planning.make import make_plan
from imagetiers.planning.plan import Plan
from imagetiers.report.cloudbuild import Mode, build_file, build_text
from imagetiers.session import Session
from imagetiers.stores.directory import DirectoryStore
from tests.cloudbuild.checks import problems
from tests.conftest import HERE, Golden, edit
from tests.planning.world import FakeEngine, FakeRegistry, Shown, services

REPO = HERE.parent
Json = dict[str, Any]

EVERYTHING = """\
version: 1
name: tiny
registry: europe-docker.pkg.dev/p/r
cache: gs://bucket/prefix
cloudbuild:
  builder: ${_REGION}-docker.pkg.dev/$PROJECT_ID/tools/imagetiers-builder:1
  timeout: 6h30m
  compile_timeout: 6h
  pool: projects/$PROJECT_ID/locations/${_REGION}/workerPools/builds
  service_account: builds@$PROJECT_ID.iam.gserviceaccount.com
  pr_service_account: pulls@$PROJECT_ID.iam.gserviceaccount.com
  logs: gs://logs-of-$PROJECT_ID
  queue_ttl: 10m
  keys:
    signing: gcpkms://projects/p/locations/l/keyRings/r/cryptoKeys/k/cryptoKeyVersions/1
    cosign: cosign-key
    cosign_password: cosign-password
  substitutions: {_REGION: europe-west1}
tiers:
  pytorch-clean:
    bases: {BASE: "debian:trixie-slim"}
    args: {GREETING: hello}
    compile: {stage: builder, run: [sh, /src/make-wheel]}
  arr-base: {parent: pytorch-clean, secrets: {pip-token: {env: PIP_TOKEN}}}
  arr-training: {parent: arr-base}
  sister: {parent: pytorch-clean}
variants:
  shouting: {tiers: {pytorch-clean: {args: {GREETING: HELLO}}}}
"""


SIGNED = f"""\
registry: europe-docker.pkg.dev/p/r
supply_chain: {{keys: {{main: cosign.pub}}, sign: main}}
trust: {{require: true, keys: [{{name: main, ed25519: {base64.b64encode(bytes(range(32))).decode()}}}]}}
"""


def plan_of(layout: Layout, variant: str | None = None) -> Plan:
    return make_plan(load_repository(layout, variant), date(2026, 11, 21))


@pytest.fixture
def everything(tiny: Layout) -> Layout:
    tiny.pipeline.write_text(EVERYTHING)
    shutil.copytree(tiny.tier("arr-base"), tiny.tier("sister"))
    return tiny


def read(text: str) -> Json:
    build = yaml.safe_load(text)
    assert isinstance(build, dict)
    return build


@pytest.mark.parametrize("mode", Mode.ALL)
def test_the_repositorys_files_are_up_to_date(mode: str) -> None:
    file = REPO / build_file(None, mode)

    assert file.read_text() == build_text(plan_of(Layout(REPO)), mode), "doit cloudbuild writes it"
    assert problems(read(file.read_text())) == []


@pytest.mark.parametrize("mode", Mode.ALL)
@pytest.mark.parametrize("variant", ["a100", "cpu", "quickstart"])
def test_every_variant_makes_a_valid_file(variant: str, mode: str) -> None:
    text = build_text(plan_of(Layout(REPO), variant), mode)

    assert problems(read(text)) == []
    assert all(f"variant={variant}" in step["args"] for step in read(text)["steps"])


@pytest.mark.parametrize("mode", Mode.ALL)
def test_a_pipeline_that_uses_everything(mode: str, everything: Layout, golden: Golden) -> None:
    text = build_text(plan_of(everything, "shouting"), mode)

    assert problems(read(text)) == []
    assert text == build_text(plan_of(everything, "shouting"), mode)
    golden(text, HERE / "golden" / f"{build_file(None, mode).replace('ci/', '')}")


def test_tiers_wait_only_for_what_they_need(everything: Layout) -> None:
    steps = read(build_text(plan_of(everything), Mode.TRUSTED))["steps"]

    assert {step["id"]: step["waitFor"] for step in steps} == {
        "plan": ["-"],
        "compile-pytorch-clean": ["plan"],
        "image-pytorch-clean": ["compile-pytorch-clean"],
        "image-arr-base": ["image-pytorch-clean"],
        "image-arr-training": ["image-arr-base"],
        "image-sister": ["image-pytorch-clean"],
        "status": ["image-arr-training", "image-sister"],
        "report": ["status"],
    }


def test_only_trusted_builds_publish_a_report_and_only_into_a_bucket(everything: Layout) -> None:
    def reports(mode: str) -> list[Any]:
        return [step for step in read(build_text(plan_of(everything), mode))["steps"] if step["id"] == "report"]

    (step,) = reports(Mode.TRUSTED)
    assert step["allowFailure"] is True, "what was built is built"
    assert reports(Mode.PR) == []
    edit("pipeline.yaml", "cache: gs://bucket/prefix", "cache: .imagetiers/cache")(everything)
    assert reports(Mode.TRUSTED) == []


def test_a_compile_in_the_parents_image_waits_for_it(everything: Layout) -> None:
    edit("pipeline.yaml", "sister: {parent", "sister: {compile: {stage: b, run: x}, parent")(everything)
    lines = ("ARG PARENT", "FROM ${PARENT} AS b", "FROM b AS wheels", "FROM ${PARENT}", "COPY --from=wheels /w /w", "")
    (everything.tier("sister") / "Dockerfile").write_text("\n".join(lines))

    steps = {step["id"]: step for step in read(build_text(plan_of(everything), Mode.TRUSTED))["steps"]}

    assert steps["compile-sister"]["waitFor"] == ["image-pytorch-clean"]
    assert steps["image-sister"]["waitFor"] == ["compile-sister", "image-pytorch-clean"]


def test_a_pull_request_pushes_nothing_and_gets_no_secret(everything: Layout) -> None:
    text = build_text(plan_of(everything), Mode.PR)

    assert "push:" not in text
    assert "PIP_TOKEN" not in text
    assert "pulls@" in text
    assert "builds@" not in text
    assert all(step["args"][:2] == ["trust=untrusted", "branch=pr-${_PR_NUMBER}"] for step in read(text)["steps"])
    assert "push:arr-base" in build_text(plan_of(everything), Mode.TRUSTED)


def test_only_steps_that_push_get_the_key_of_images(everything: Layout) -> None:
    steps = {step["id"]: step for step in read(build_text(plan_of(everything), Mode.TRUSTED))["steps"]}
    address = f"IMAGETIERS_SIGNING_KEY={plan_of(everything).pipeline.cloudbuild.keys.signing}"

    both = ["COSIGN_PASSWORD", "IMAGETIERS_COSIGN_KEY"]
    assert {name: step.get("secretEnv", []) for name, step in steps.items() if "secretEnv" in step} == {
        "image-pytorch-clean": both,
        "image-arr-base": [*both, "PIP_TOKEN"],
        "image-arr-training": both,
        "image-sister": both,
    }
    assert [name for name, step in steps.items() if step.get("env") == [address]] == [
        name for name in steps if name not in {"plan", "status", "report"}
    ]


def test_a_build_that_would_be_refused_for_its_signatures_is_not_written(tiny: Layout) -> None:
    tiny.pipeline.write_text(tiny.pipeline.read_text() + SIGNED)
    (tiny.root / "cosign.pub").write_text("-----BEGIN PUBLIC KEY-----\n")
    world = services(FakeEngine(FakeRegistry()), DirectoryStore(tiny.root / "cache"), Shown())
    session = Session(plan_of(tiny), tiny, world, Trust())

    with pytest.raises(PipelineError) as raised:
        write_cloudbuild(session)
    assert [problem.what.partition(" asks")[0] for problem in raised.value.problems] == [
        "supply_chain.sign",
        "trust.require",
    ]

    keys = "cloudbuild: {keys: {cosign: cosign-key, signing: cache-key}}\n"
    tiny.pipeline.write_text(tiny.pipeline.read_text() + keys)
    write_cloudbuild(Session(plan_of(tiny), tiny, world, Trust()))
    assert "cosign-key" in (tiny.root / "ci" / "cloudbuild.yaml").read_text()
    assert "cosign-key" not in (tiny.root / "ci" / "cloudbuild-pr.yaml").read_text()


def test_no_registry_no_push(tiny: Layout) -> None:
    assert "push:" not in build_text(plan_of(tiny), Mode.TRUSTED)


def test_a_short_compile_keeps_time_to_end_in_order(tiny: Layout) -> None:
    plan = plan_of(tiny)
    for limit, own in ((14_400, 13_800), (300, 240)):
        settings = dataclasses.replace(plan.pipeline.cloudbuild, compile_timeout=limit)
        changed = dataclasses.replace(plan, pipeline=dataclasses.replace(plan.pipeline, cloudbuild=settings))
        steps = {step["id"]: step for step in read(build_text(changed, Mode.TRUSTED))["steps"]}
        compile_step = steps["compile-pytorch-clean"]
        assert (compile_step["timeout"], compile_step["args"][-1]) == (f"{limit}s", f"--timeout={own}s")


def _one_volume_only(build: Json) -> None:
    for step in build["steps"][1:]:
        del step["volumes"]


BROKEN: dict[str, tuple[Callable[[Json], object], str]] = {
    "misspelt key": (lambda b: b.update(timout="1s"), 'no field named "timout"'),
    "misspelt key of a step": (lambda b: b["steps"][0].update(wait_four=[]), 'no field named "wait_four"'),
    "duration with a unit": (lambda b: b.update(timeout="5h"), "the API's types"),
    "volume in one step": (_one_volume_only, "in one step only"),
    "reserved path": (lambda b: b["steps"][0]["volumes"][0].update(path="/workspace/x"), "reserved"),
    "unknown id": (lambda b: b["steps"][2].update(waitFor=["nope"]), "waits for nope"),
    "later id": (lambda b: b["steps"][0].update(waitFor=["status"]), "waits for status"),
    "same id": (lambda b: b["steps"][1].update(id="plan"), "two steps are called plan"),
    "step as long as the build": (lambda b: b["steps"][1].update(timeout=b["timeout"]), "not below the build's"),
    "step as long as its compile": (lambda b: b["steps"][1].update(timeout="60s"), "before doit ends its compile"),
    "more than a day": (lambda b: b.update(timeout="172800s"), "above 24 h"),
    "no underscore": (lambda b: b["substitutions"].update(REGION="x"), "has no underscore"),
    "undefined": (lambda b: b["steps"][0]["args"].append("${_NOPE}"), "_NOPE is used and not defined"),
    "unused": (lambda b: b["substitutions"].update(_X="x"), "_X is defined and not used"),
    "machine of another pool": (lambda b: b["options"].update(machineType="N1_HIGHCPU_32"), "the default pool has no"),
    "pool and machine": (lambda b: b["options"].update(pool={"name": "p"}), "a private pool has its own"),
    "disk": (lambda b: b["options"].update(diskSizeGb=4001), "no disk is above"),
    "no logs": (lambda b: b["options"].pop("logging"), "needs a logs bucket"),
    "no account": (lambda b: b.pop("serviceAccount"), "own account"),
    "secret from nowhere": (lambda b: b["steps"][0].update(secretEnv=["X"]), "secrets: given [], used ['X']"),
    "a shell": (lambda b: b["steps"][0].update(entrypoint="bash"), "something else than calling doit"),
}


@pytest.mark.parametrize(("break_it", "told"), BROKEN.values(), ids=BROKEN.keys())
def test_the_checks_find(break_it: Callable[[Json], object], told: str, tiny: Layout) -> None:
    build = read(build_text(plan_of(tiny), Mode.TRUSTED))
    assert problems(build) == []
    broken = copy.deepcopy(build)
    break_it(broken)

    assert told in "\n".join(problems(broken))


def test_machines_and_disks_that_schemastore_does_not_know_are_fine(tiny: Layout) -> None:
    build = read(build_text(plan_of(tiny), Mode.TRUSTED))
    build["options"].update(machineType="E2_STANDARD_2", diskSizeGb=3000)

    assert problems(build) == []


def test_the_builders_packages_are_the_locked_ones() -> None:
    def pins(path: str) -> set[str]:
        return {line for line in (REPO / path).read_text().splitlines() if "==" in line or "--hash" in line}

    assert pins("ci/builder/requirements.lock") <= pins("requirements.lock")
