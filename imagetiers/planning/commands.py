"""What is run for a tier: its image build, its compile container, its checks. Nothing here runs anything. Pure."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

from imagetiers.config.checks import CommandCheck
from imagetiers.config.model import PARENT_ARG, CcacheSettings, Pipeline, Secret, Trust
from imagetiers.planning.containers import LAUNCHER, BindMount, BuildImage, Container
from imagetiers.planning.keys import FILES_LEFT_OUT, KeyDocument
from imagetiers.planning.labels import Label
from imagetiers.planning.plan import CompilePlan, Contexts, TierPlan

__all__ = [
    "BUILD_FOLDER",
    "CALL_LOG",
    "CCACHE_DIR",
    "JOB_KNOWN",
    "JOB_LOG",
    "JOB_SOURCE",
    "OUTPUTS_DIR",
    "SECRETS",
    "STATS_LOG",
    "WHEELS_DIR",
    "build_builder",
    "build_image",
    "command_container",
    "compile_container",
    "declared_labels",
    "max_jobs",
    "named_contexts",
    "room_of",
    "secrets_stream",
    "verify_container",
]

# The kernel takes no single argument beyond 128 KiB (MAX_ARG_STRLEN); a longer key document lies only in the cache.
MAX_LABEL = 100_000
COMPILE_STOP_SECONDS = 10

# What a compile leaves beside its wheels.
STATS_LOG = ".ccache-stats.log"
CALL_LOG = ".ccache-calls.log"
JOB_LOG = ".jobs.log"

JOB_SOURCE = "/imagetiers/job.c"
JOB_KNOWN = "/imagetiers/known"

BUILD_FOLDER = "/imagetiers/build-folder"  # the program that keeps build folders
_BUILD_FOLDER_AT = "/build-folder"  # what it keeps
CCACHE_DIR, WHEELS_DIR, OUTPUTS_DIR, _LOGS = "/ccache", "/wheels", "/outputs", "/imagetiers/logs"

# Compiles the launcher and puts it before whatever command ccache is to put before compilers, and becomes the command.
# CCACHE_DISABLE: cc may be a link to ccache, and this call is not the step's.
_WITH_LAUNCHER = f"""\
job=/tmp/.imagetiers/{LAUNCHER}
if ! command -v ccache >/dev/null; then :
elif mkdir -p /tmp/.imagetiers && CCACHE_DISABLE=1 cc -O1 -o "$job" {JOB_SOURCE} && [ "$("$job")" = ready ]
then export CCACHE_PREFIX="$job${{CCACHE_PREFIX:+ $CCACHE_PREFIX}}"
else echo "imagetiers: cc cannot compile {JOB_SOURCE}: nobody measures or limits what the compilers need"
fi
exec "$@"
"""

SECRETS = "/run/secrets"  # where BuildKit puts them, too
MAX_SECRET = 500 * 1024  # bytes; BuildKit's own limit

# Takes the secrets from its stdin into a tmpfs and becomes the command: so they are in no option, layer or host's folder.
# `read` takes a line from a pipe and not a byte more, and so does dd with its block of one.
_TAKE_SECRETS = f"""\
while read -r word size id; do
  case $word in
    end) exec "$@" </dev/null ;;
    secret) (umask 377; dd bs=1 count="$size" of="{SECRETS}/$id" 2>/dev/null) ;;
  esac
  [ "$(wc -c <"{SECRETS}/$id")" -eq "$size" ] || break
done
echo "the secrets did not arrive" >&2
exit 1
"""


_NONE: Mapping[str, Path] = MappingProxyType({})


def max_jobs(cpus: int, memory: int, job_memory: int, known: int = 0) -> int:
    """Return how many compiler jobs fit into so many processors and bytes of memory.

    `known` is what a job has needed on average, 0 where nobody knows. Where that is less than `job_memory`, up to twice as
    many run: each of them waits for its own lease, but what the compilers' callers need is in no lease.
    """
    room = room_of(memory)
    jobs = max(1, room // job_memory)
    if known:
        jobs = max(jobs, min(2 * jobs, room // known))
    return min(cpus, jobs)


def room_of(memory: int) -> int:
    """Return the bytes that all jobs together may have, of so many.

    A sixteenth, at least 512 MiB and at most 4 GiB, but never more than a quarter, is left to the system and the linker.
    """
    return memory - min(max(memory // 16, 512 << 20), 4 << 30, memory // 4)


def build_image(
    tier: TierPlan,
    pipeline: Pipeline,
    wheels: Path | None,
    trust: Trust,
    *,
    images: Mapping[str, str],
    folders: Mapping[str, Path] = _NONE,
    secrets: tuple[Secret, ...] = (),
    no_cache: bool = False,
    archive: Path | None = None,
) -> BuildImage:
    """Return the build of a tier's image, or of what its `archive` is to hold.

    The wheels' folder stands in for the stage of that name, and `folders` are where those lie that it takes from by a name.
    `images` are references of the tiers that it is made from: by key, or by the digest in the registry. `secrets` are those of
    the tier's that this build gets.
    """
    if tier.compile is not None and wheels is not None:
        folders = {**folders, tier.compile.config.wheels_stage: wheels}
    return BuildImage(
        tags=(tier.ref,),
        target=tier.target,
        platform=pipeline.platform,
        args=_args(tier.args, tier.config.parent, images),
        labels={
            **declared_labels(tier, pipeline),
            Label.KEY: tier.key,
            Label.TIER: tier.name,
            Label.PIPELINE: pipeline.name,
            Label.VARIANT: pipeline.variant or "",
            Label.KEY_DOCUMENT: _label_value(tier.key_document),
            Label.TRUST: trust.label,
        },
        contexts=_contexts(tier.contexts, images, folders),
        secrets=secrets,
        no_cache=no_cache,
        network=tier.config.network,
        archive=archive,
    )


def build_builder(
    plan: CompilePlan,
    tier: TierPlan,
    platform: str,
    *,
    images: Mapping[str, str],
    folders: Mapping[str, Path] = _NONE,
    secrets: tuple[Secret, ...] = (),
    no_cache: bool = False,
) -> BuildImage:
    """Return the build of the image that a compile step runs in; `images`, `folders` and `secrets` as for `build_image`."""
    return BuildImage(
        tags=(plan.builder,),
        target=plan.config.stage,
        platform=platform,
        args=_args(plan.args, plan.parent, images),
        labels={Label.COMPILE_KEY: plan.key},
        contexts=_contexts(plan.contexts, images, folders),
        secrets=secrets,
        no_cache=no_cache,
        layers=plan.layers,
        network=tier.config.network,
    )


def _args(args: Mapping[str, str], parent: str | None, images: Mapping[str, str]) -> Mapping[str, str]:
    return args if parent is None else {**args, PARENT_ARG: images[parent]}


def declared_labels(tier: TierPlan, pipeline: Pipeline) -> dict[str, str]:
    """Return the labels of an image that say what it is, and nothing of how it was built."""
    return {
        "org.opencontainers.image.title": f"{pipeline.name}/{tier.name}",
        "org.opencontainers.image.version": tier.config.tag,
        **tier.config.labels,
    }


def _contexts(contexts: Contexts, images: Mapping[str, str], folders: Mapping[str, Path]) -> dict[str, str]:
    named = named_contexts(contexts, {tier: f"docker-image://{ref}" for tier, ref in images.items()})
    return named | {name: str(path) for name, path in folders.items()}


def named_contexts(contexts: Contexts, tiers: Mapping[str, str]) -> dict[str, str]:
    """Return named contexts as buildx is told of them; `tiers` says what stands for the images of tiers."""
    outside = {name: f"docker-image://{ref}" for name, ref in contexts.images.items()}
    return outside | {name: tiers[tier] for name, tier in contexts.tiers.items()}


def compile_container(
    plan: CompilePlan,
    *,
    user: tuple[int, int],
    jobs: int,
    room: int,
    ccache: Path,
    wheels: Path,
    checkout: str,
    outputs: Path | None = None,
    secrets: int = 0,
    folder: Path | None = None,
) -> Container:
    """Return the container that compiles: ccache and wheels are folders of the host, and there is no network but the host's.

    The name is the compile key's: the engine itself keeps two of them from running at once, and a later doit finds it.
    All compilers together may have `room` bytes of memory. With so many `secrets` it first reads `secrets_stream` from
    its stdin; they are files of its user, in memory. `folder` is where its build folder comes from and goes to. `outputs` is
    where the step leaves what it makes, if that is not in `wheels`.
    """
    options = f"rw,noexec,nosuid,nodev,size={secrets}m,mode=0700,uid={user[0]},gid={user[1]}"
    made, logs = (WHEELS_DIR, WHEELS_DIR) if outputs is None else (OUTPUTS_DIR, _LOGS)
    settings, run = plan.config.ccache, plan.config.run
    if settings is not None:
        run = ("/bin/sh", "-c", _WITH_LAUNCHER, "imagetiers", *run)
    return Container(
        name=f"imagetiers-compile-{plan.key[:12]}-{checkout}",
        image=plan.builder,
        argv=("/bin/sh", "-c", _TAKE_SECRETS, "imagetiers", *run) if secrets else run,
        user=f"{user[0]}:{user[1]}",
        env={
            "MAX_JOBS": str(jobs),
            **(_ccache_env(settings, plan.config.job_memory, room, logs) if settings is not None else {}),
            "WHEELS_DIR": made,
            "OUTPUTS_DIR": made,
            "HOME": "/tmp",  # noqa: S108  in the container: any user may write there
            **(
                {"IMAGETIERS_BUILD_FOLDER": BUILD_FOLDER, "IMAGETIERS_BUILD_FOLDER_AT": _BUILD_FOLDER_AT}
                if folder
                else {}
            ),
        },
        mounts=(
            *((BindMount(ccache, CCACHE_DIR),) if settings is not None else ()),
            *((BindMount(wheels, logs),) if outputs is None or settings is not None else ()),
            *((BindMount(outputs, made),) if outputs is not None else ()),
            *((BindMount(folder, _BUILD_FOLDER_AT),) if folder else ()),
        ),
        labels={Label.COMPILE_KEY: plan.key, Label.CHECKOUT: checkout},
        tmpfs={SECRETS: options} if secrets else {},
        memory=plan.config.memory,
        network=plan.key_document.network or "none",
    )


def _ccache_env(settings: CcacheSettings, job_memory: int, room: int, logs: str) -> dict[str, str]:
    return {
        "CCACHE_DIR": CCACHE_DIR,
        "CCACHE_MAXSIZE": str(settings.max_size),
        "CCACHE_STATSLOG": f"{logs}/{STATS_LOG}",
        "CCACHE_LOGFILE": f"{logs}/{CALL_LOG}",
        "IMAGETIERS_JOB_ROOM": str(room),
        "IMAGETIERS_JOB_MEMORY": str(job_memory),
        "IMAGETIERS_JOB_KNOWN": JOB_KNOWN,
        "IMAGETIERS_JOB_LOG": f"{logs}/{JOB_LOG}",
        "NVCC_PER_ARCH": str(int(settings.per_arch)),
    }


def secrets_stream(values: Mapping[str, bytes]) -> bytes:
    """Return what a compile container with secrets reads from its stdin; one that is cut off starts no compile."""
    parts = [f"secret {len(value)} {id_}\n".encode() + value for id_, value in sorted(values.items())]
    return b"".join([*parts, b"end\n"])


def verify_container(tier: TierPlan, nonce: str, *, gpus: bool = False, cpus: str = "") -> Container:
    """Return the container that runs a tier's checks, as the image's own user and without network.

    `nonce` makes its name, and the lines by which its runner is told from the scripts, its own. With `gpus` it has all of the
    host's, and scripts learn that it must.
    """
    name = f"imagetiers-verify-{tier.name}-{tier.key[:12]}-{nonce}"
    scripts = " ".join(tier for tier, _, _ in tier.verify.scripts)
    return Container(
        name=name,
        image=tier.ref,
        argv=("/bin/sh", "/imagetiers/verify.sh"),
        env={
            "IMAGETIERS_VERIFY": scripts,
            "IMAGETIERS_MARK": nonce,
            **({"IMAGETIERS_GPU": "1"} if gpus else {}),
        },
        labels={Label.TIER: tier.name},
        gpus=gpus,
        cpus=cpus,
    )


def command_container(
    tier: TierPlan, command: CommandCheck, nonce: str, *, gpus: bool = False, cpus: str = ""
) -> Container:
    """Return the container that runs one command of a tier's checks, as the image's own user and without network."""
    return Container(
        name=f"imagetiers-verify-{tier.name}-{tier.key[:12]}-{nonce}",
        image=tier.ref,
        argv=command.run,
        labels={Label.TIER: tier.name},
        gpus=gpus,
        cpus=cpus,
    )


def _label_value(made: KeyDocument) -> str:
    text = made.json()
    if len(text.encode()) <= MAX_LABEL:
        return text
    document = made.content()
    document["files"] = {FILES_LEFT_OUT: [str(len(made.files)), ""]}
    return json.dumps(document, sort_keys=True, separators=(",", ":"))
