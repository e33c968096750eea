"""verify:<tier> --gpu vertex: the checks of a published image on each GPU of the pipeline, as custom jobs of Vertex AI.

The jobs are written as files, for whoever may start them. What they print comes back through the cache's bucket and is judged
here.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from imagetiers.errors import NotFoundError, Problem, VerifyError
from imagetiers.inputs.context import archive
from imagetiers.judging.outcome import CheckOutcome
from imagetiers.operations.checks import Checked, outcomes, runner_files
from imagetiers.operations.outfile import write_out
from imagetiers.planning.commands import verify_container
from imagetiers.planning.plan import TierPlan
from imagetiers.planning.vertex import MACHINES, custom_job, result_name
from imagetiers.session import Session
from imagetiers.state.observe import observe

__all__ = ["verify_on_vertex"]

_ARTIFACT_REGISTRY = re.compile(r"([a-z0-9-]+)-docker\.pkg\.dev/([a-z0-9:.-]+)/")
_MOST = 16 << 20  # bytes of a result


def verify_on_vertex(session: Session, tier: TierPlan) -> None:
    """Judge what jobs have brought, and write those that have brought nothing yet.

    Raises VerifyError with what failed, and as long as a result is missing: what was not run has not passed.
    """
    task = f"verify:{tier.name}"
    gpus, bucket = _preconditions(session, tier)
    published = observe(session).published(tier)
    if published is None:
        raise VerifyError(
            Problem(task, "the registry has no image of this key, and jobs take theirs from there", "doit push")
        )
    found: list[CheckOutcome] = []
    waiting: list[Problem] = []
    for gpu in gpus:
        name = result_name(tier, published.image, gpu)
        try:
            data, _ = session.services.store.read(name)
        except NotFoundError:
            path = session.layout.work / "vertex" / tier.name / f"{gpu}.json"
            path.parent.mkdir(parents=True, exist_ok=True)
            _write(path, tier, f"{tier.repository}@{published.digest}", gpu, _split(bucket, name))
            waiting.append(Problem(task, f"nothing has come back of {gpu} yet; its job is {path}", _how(tier, path)))
            continue
        came = list(_judge(session, tier, gpu, data))
        found += came
        if all(outcome.passed for outcome in came):
            session.services.console.line(f"{task}: {len(came)} checks passed on {gpu}")
    VerifyError.raise_if([*(Problem(task, each.problem, each.hint) for each in found if not each.passed), *waiting])


def _preconditions(session: Session, tier: TierPlan) -> tuple[tuple[str, ...], str]:
    """Return the GPUs and the cache's bucket. Raises VerifyError with all that is missing."""
    task, pipeline = f"verify:{tier.name}", session.plan.pipeline
    gpus = pipeline.gpus if tier.verify.device is not None else ()
    wrong = []
    if not tier.verify.scripts:
        wrong.append(Problem(task, "no verify.py, here or in an ancestor, has anything to run on a GPU", "write one"))
    if not gpus:
        wrong.append(Problem(task, "is compiled for no GPU that pipeline.yaml names", "gpus: [A100, ...]"))
    if pipeline.registry is None or not pipeline.cache.startswith("gs://"):
        what = "jobs take the image from a registry and leave their results in a bucket"
        wrong.append(Problem(task, what, "registry: HOST/PATH and cache: gs://BUCKET/PREFIX in pipeline.yaml"))
    unknown = [gpu for gpu in gpus if gpu not in MACHINES]
    if unknown:
        what = f"Vertex AI has no machine with {', '.join(unknown)}"
        wrong.append(
            Problem(task, what, f"it has {', '.join(MACHINES)}; doit verify:{tier.name} on a host that has one")
        )
    VerifyError.raise_if(wrong)
    return gpus, pipeline.cache.removeprefix("gs://").rstrip("/")


def _split(bucket: str, name: str) -> tuple[str, str]:
    """Return the bucket, and the object's name behind the cache's prefix."""
    first, _, prefix = bucket.partition("/")
    return first, f"{prefix}/{name}" if prefix else name


def _mark(tier: TierPlan, gpu: str) -> str:
    return hashlib.sha256(f"{tier.key}\0{tier.verify.check}\0{gpu}".encode()).hexdigest()[:16]


def _write(path: Path, tier: TierPlan, image: str, gpu: str, place: tuple[str, str]) -> None:
    bucket, name = place
    env = dict(verify_container(tier, _mark(tier, gpu)).env)
    job = custom_job(tier, image, gpu, env=env, files=archive(runner_files(tier)), bucket=bucket, name=name)
    write_out(path, json.dumps(job, indent=1) + "\n", f"verify:{tier.name}")


def _how(tier: TierPlan, path: Path) -> str:
    """Say how the job is started: region and project are those of the registry, where it is Google's."""
    match = _ARTIFACT_REGISTRY.match(tier.repository)
    region, project = match.groups() if match is not None else ("REGION", "PROJECT")
    place = f"https://{region}-aiplatform.googleapis.com/v1/projects/{project}/locations/{region}/customJobs"
    header = '-H "Authorization: Bearer $(gcloud auth print-access-token)"'
    return f"curl --fail {header} -H 'Content-Type: application/json' -d @{path} {place}; then this again"


def _judge(session: Session, tier: TierPlan, gpu: str, data: bytes) -> Iterator[CheckOutcome]:
    checked = Checked(
        _mark(tier, gpu), session.layout.log(tier.name, f"verify-{gpu}", tier.key), tier.verify.script_paths
    )
    checked.path.parent.mkdir(parents=True, exist_ok=True)
    text = data[:_MOST].decode(errors="replace")
    with checked.path.open("w", encoding="utf-8") as log:
        for line in text.splitlines():
            log.writelines(f"{told}\n" for told in checked.lines(line))
    for outcome in outcomes(tier, checked):
        problem = f"on {gpu}: {outcome.problem}" if outcome.problem else ""
        yield replace(outcome, check=f"{gpu}: {outcome.check}", problem=problem)
