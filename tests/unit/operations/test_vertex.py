"""Jobs for Vertex AI are what its API takes, and what comes back is judged as the output of a container is."""

from __future__ import annotations

import json
import os
import subprocess
from dataclasses import replace
from datetime import date
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from google.cloud.aiplatform_v1.types import AcceleratorType, CustomJob
from google.protobuf.json_format import ParseError

from imagetiers.config.gpus import GPUS
from imagetiers.config.layout import Layout
from imagetiers.config.model import Trust
from imagetiers.errors import VerifyError
from imagetiers.inputs.repository import load_repository
from imagetiers.operations import vertex
from imagetiers.operations.vertex import verify_on_vertex
from imagetiers.planning.make import make_plan
from imagetiers.planning.plan import DeviceCheck, Plan, TierPlan
from imagetiers.planning.vertex import MACHINES, result_name
from imagetiers.session import Session
from imagetiers.stores.directory import DirectoryStore
from tests.planning.world import FakeEngine, FakeRegistry, Shown, services

ACCELERATORS = dict(AcceleratorType.__members__)
DIGEST, IMAGE = f"sha256:{'d' * 64}", f"sha256:{'1' * 64}"
SCRIPT = b"""
import os
from imagetiers_checks import Failed, check, main

@check
def gpu(expected, params):
    if os.environ.get("IMAGETIERS_GPU") != "1" or expected not in params.values():
        raise Failed("no GPU was promised")
    return expected

@check
def wrong(expected, params):
    raise Failed("it is wrong")

main()
"""


def planned(layout: Layout, params: dict[str, str]) -> Plan:
    """Return tiny's plan as if it were for two GPUs, with one script, a registry of Google's and a bucket."""
    plan = make_plan(load_repository(layout, None), date(2026, 11, 21))
    pipeline = replace(
        plan.pipeline,
        registry="europe-west4-docker.pkg.dev/a-project/images",
        cache="gs://bucket/some/prefix",
        gpus=("A100", "L4"),
    )
    tier = plan.tiers["arr-base"]
    checks = replace(
        tier.verify, scripts=(("arr-base", SCRIPT, json.dumps(params)),), device=DeviceCheck("8.0;8.9", pipeline.gpus)
    )
    ref = f"{pipeline.registry}/{tier.ref}"
    return replace(plan, pipeline=pipeline, tiers={**plan.tiers, "arr-base": replace(tier, verify=checks, ref=ref)})


@pytest.fixture
def session(tiny: Layout, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Session:
    published = SimpleNamespace(digest=DIGEST, image=IMAGE)
    monkeypatch.setattr(vertex, "observe", lambda _: SimpleNamespace(published=lambda _: published))
    made = services(FakeEngine(FakeRegistry()), DirectoryStore(tmp_path / "cache"), Shown())
    return Session(planned(tiny, {"gpu": "any"}), tiny, made, Trust())


def jobs(session: Session) -> dict[str, dict[str, Any]]:
    folder = session.layout.work / "vertex" / "arr-base"
    return {path.stem: json.loads(path.read_text()) for path in folder.glob("*.json")}


def run_here(job: dict[str, Any], out: Path) -> int:
    """Do what Vertex AI would do: run the command with its arguments and variables, the bucket being a folder."""
    (pool,) = job["jobSpec"]["workerPoolSpecs"]
    container = pool["containerSpec"]
    assert container["args"][0].startswith("/gcs/bucket/some/prefix/gpu/")
    env = {"PATH": os.environ["PATH"], **{each["name"]: each["value"] for each in container["env"]}}
    argv = [*container["command"], str(out), *container["args"][1:]]
    return subprocess.run(argv, env=env, capture_output=True, check=False).returncode


def tier_of(session: Session) -> TierPlan:
    return session.plan.tiers["arr-base"]


def test_a_job_is_what_the_api_takes(session: Session) -> None:
    with pytest.raises(VerifyError) as error:
        verify_on_vertex(session, tier_of(session))

    assert [problem.what.split(";")[0] for problem in error.value.problems] == [
        "nothing has come back of A100 yet",
        "nothing has come back of L4 yet",
    ]
    assert (
        "https://europe-west4-aiplatform.googleapis.com/v1/projects/a-project/locations/europe-west4/customJobs"
        in str(error.value)
    )
    for gpu, job in jobs(session).items():
        read = CustomJob.from_json(json.dumps(job))  # refuses fields that the API does not know
        (pool,) = read.job_spec.worker_pool_specs
        assert pool.machine_spec.machine_type == MACHINES[gpu].machine_type
        assert pool.machine_spec.accelerator_type == ACCELERATORS[MACHINES[gpu].accelerator]
        assert pool.container_spec.image_uri.endswith(f"/arr-base@{DIGEST}")
        assert pool.replica_count == 1
        assert read.job_spec.scheduling.timeout.total_seconds() == 1800
    with pytest.raises(ParseError, match="no field"):
        CustomJob.from_json(json.dumps({**jobs(session)["L4"], "image": "x"}))


def test_every_machine_is_for_a_gpu_that_is_known() -> None:
    assert set(MACHINES) <= set(GPUS)
    assert {machine.accelerator for machine in MACHINES.values()} <= set(ACCELERATORS)


def test_what_comes_back_is_judged(session: Session, tmp_path: Path) -> None:
    tier = tier_of(session)
    with pytest.raises(VerifyError):
        verify_on_vertex(session, tier)
    for gpu, job in jobs(session).items():
        out = tmp_path / "results" / f"{gpu}.log"
        assert run_here(job, out) == 0
        session.services.store.write(result_name(tier, IMAGE, gpu), out.read_bytes())

    verify_on_vertex(session, tier)

    assert [line for line in session.services.console.lines if "passed" in line] == [  # type: ignore[attr-defined]
        "verify:arr-base: 1 checks passed on A100",
        "verify:arr-base: 1 checks passed on L4",
    ]


def test_a_check_that_fails_there_fails_here_and_so_does_what_was_cut_off(session: Session, tmp_path: Path) -> None:
    session = replace(session, plan=planned(session.layout, {"gpu": "x", "wrong": "y"}))
    tier = tier_of(session)
    with pytest.raises(VerifyError):
        verify_on_vertex(session, tier)
    out = tmp_path / "out.log"
    run_here(jobs(session)["A100"], out)
    session.services.store.write(result_name(tier, IMAGE, "A100"), out.read_bytes())
    session.services.store.write(result_name(tier, IMAGE, "L4"), out.read_bytes()[:10])

    with pytest.raises(VerifyError) as error:
        verify_on_vertex(session, tier)

    assert "on A100: 1 of 2 checks of images/arr-base/verify.py failed" in str(error.value)
    assert "on L4: the checks could not be started" in str(error.value)


def test_what_is_missing_is_told_at_once(tiny: Layout, session: Session) -> None:
    plan = make_plan(load_repository(tiny, None), date(2026, 11, 21))

    with pytest.raises(VerifyError) as error:
        verify_on_vertex(replace(session, plan=plan), plan.tiers["arr-training"])

    assert len(error.value.problems) == 2
    assert "compiled for no GPU" in str(error.value)
    assert "leave their results in a bucket" in str(error.value)
