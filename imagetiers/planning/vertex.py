"""The checks of an image on GPUs of Vertex AI: one custom job a GPU, as its API takes it. Pure.

A job runs the image itself, with the runner and the scripts as its arguments, and writes what they print into the pipeline's
bucket, which Vertex AI mounts at /gcs. From there it is judged as the output of a container here.
"""

from __future__ import annotations

import base64
import gzip
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from imagetiers.planning.plan import TierPlan

__all__ = ["MACHINES", "VertexMachine", "custom_job", "result_name"]


@dataclass(frozen=True, slots=True)
class VertexMachine:
    """A machine with GPUs: its type, what Vertex AI calls the GPU, and how many of them the smallest such machine has."""

    machine_type: str
    accelerator: str
    count: int = 1


# Accelerators as google-cloud-aiplatform 2.7.0 lists them; the machine types were written from memory, Google's own list is at
# https://cloud.google.com/vertex-ai/docs/training/configure-compute. Jobs for GPUs that are not here cannot be written.
MACHINES: Mapping[str, VertexMachine] = {
    "P4": VertexMachine("n1-standard-4", "NVIDIA_TESLA_P4"),
    "P100": VertexMachine("n1-standard-4", "NVIDIA_TESLA_P100"),
    "V100": VertexMachine("n1-standard-4", "NVIDIA_TESLA_V100"),
    "T4": VertexMachine("n1-standard-4", "NVIDIA_TESLA_T4"),
    "A100": VertexMachine("a2-highgpu-1g", "NVIDIA_TESLA_A100"),
    "L4": VertexMachine("g2-standard-4", "NVIDIA_L4"),
    "H100": VertexMachine("a3-highgpu-8g", "NVIDIA_H100_80GB", 8),
    "H200": VertexMachine("a3-ultragpu-8g", "NVIDIA_H200_141GB", 8),
    "B200": VertexMachine("a4-highgpu-8g", "NVIDIA_B200", 8),
}

_WORD = 100_000  # characters: the kernel takes no argument beyond 128 KiB
_UNPACK = (
    "import base64,io,sys,tarfile;"
    "tarfile.open(fileobj=io.BytesIO(base64.b64decode(''.join(sys.argv[2:])))).extractall(sys.argv[1])"
)
# The result appears whole or not at all; the job itself has done well once it is there.
_RUN = """\
out=$1; shift
dir=$(mktemp -d) && python3 -c "$IMAGETIERS_UNPACK" "$dir" "$@" || exit 1
unset IMAGETIERS_UNPACK
sed "s|/imagetiers/|$dir/imagetiers/|g" "$dir/imagetiers/verify.sh" >"$dir/verify.sh"
mkdir -p "$(dirname "$out")"
sh "$dir/verify.sh" >"$dir/log" 2>&1
cat "$dir/log"
cp "$dir/log" "$out.partial" && mv "$out.partial" "$out"
"""


def result_name(tier: TierPlan, image: str, gpu: str) -> str:
    """Return the name under which the cache keeps what an image's checks have printed on a GPU."""
    return f"gpu/{image.removeprefix('sha256:')}/{tier.verify.check}/{gpu}.log"


def custom_job(
    tier: TierPlan, image: str, gpu: str, *, env: Mapping[str, str], files: bytes, bucket: str, name: str
) -> dict[str, Any]:
    """Return the body of projects.locations.customJobs.create for one GPU, which `MACHINES` must have.

    `image` is repository@digest, `files` a tar of what the runner needs, `env` its variables; the result goes to the object
    `name` of `bucket` (without gs://).
    """
    machine = MACHINES[gpu]
    text = base64.b64encode(gzip.compress(files, mtime=0)).decode()
    words: Sequence[str] = [text[at : at + _WORD] for at in range(0, len(text), _WORD)]
    variables = {**env, "IMAGETIERS_GPU": "1", "IMAGETIERS_UNPACK": _UNPACK}
    return {
        "displayName": f"verify-{tier.name}-{gpu}-{tier.key[:12]}".lower(),
        "labels": {"imagetiers-tier": tier.name, "imagetiers-gpu": gpu.lower(), "imagetiers-key": tier.key[:12]},
        "jobSpec": {
            "workerPoolSpecs": [
                {
                    "machineSpec": {
                        "machineType": machine.machine_type,
                        "acceleratorType": machine.accelerator,
                        "acceleratorCount": machine.count,
                    },
                    "replicaCount": 1,
                    "containerSpec": {
                        "imageUri": image,
                        "command": ["/bin/sh", "-c", _RUN, "imagetiers"],
                        "args": [f"/gcs/{bucket}/{name}", *words],
                        "env": [{"name": key, "value": value} for key, value in sorted(variables.items())],
                    },
                }
            ],
            "scheduling": {
                "timeout": f"{tier.config.verify.timeout}s",
                "restartJobOnWorkerRestart": False,
                "disableRetries": True,
            },
        },
    }
