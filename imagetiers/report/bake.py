"""A plan as a bake file: `docker buildx bake` makes images of the same files of it, without keys, checks or ccache. Pure.

A target gets what BuildKit gets of doit: the Dockerfile that is made of the key, and the very files that were hashed. They are
folders here, because a bake file names its contexts.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from imagetiers.config.layout import DOCKERFILE
from imagetiers.config.model import ONLY_WHEELS, PARENT_ARG, SSH_AGENT, MadeFiles, Secret
from imagetiers.dockerfile.network import with_network
from imagetiers.inputs.files import InputFile, input_file, named_after
from imagetiers.planning.commands import CCACHE_DIR, OUTPUTS_DIR, SECRETS, WHEELS_DIR, declared_labels, named_contexts
from imagetiers.planning.keys import short
from imagetiers.planning.plan import CompilePlan, Plan, TakenFolder, TierPlan

__all__ = ["PrintedContext", "PrintedFile", "PrintedTarget", "bake_file"]

_DEFAULT = "default"  # the group that bake builds where it is asked for none
_IGNORE = ".dockerignore"
_OWN_DOCKERFILE = ".imagetiers.Dockerfile"
_NAMED_BY = 16  # hex digits
_EMPTY, _COMPILED, _MADE = "imagetiers-empty", "imagetiers-compiled", "imagetiers-made"  # stages
_ALL_PROCESSORS = 'export MAX_JOBS="${MAX_JOBS:-$(nproc)}"; exec "$@"'


@dataclass(frozen=True, slots=True)
class PrintedContext:
    """The build context of a target: its files, among them the one that is the Dockerfile."""

    target: str
    files: tuple[InputFile, ...]
    dockerfile: str

    @property
    def folder(self) -> str:
        """The name of its folder, another one for other files."""
        return named_after(self.target, self.files, _NAMED_BY)


@dataclass(frozen=True, slots=True)
class PrintedTarget:
    """A target: `contexts` are named ones as bake has them, beside `folders`; `stage` is what is built, None: the last one."""

    name: str
    context: PrintedContext
    platform: str
    stage: str | None = None
    args: Mapping[str, str] = field(default_factory=dict)
    contexts: Mapping[str, str] = field(default_factory=dict)
    folders: tuple[TakenFolder, ...] = ()
    labels: Mapping[str, str] = field(default_factory=dict)
    tags: tuple[str, ...] = ()
    secrets: tuple[Secret, ...] = ()
    network: str | None = None
    output: MadeFiles | None = None

    def document(self, place: str) -> dict[str, Any]:
        """Return the target as JSON has it; contexts lie in the folder `place`."""
        given = {
            "context": f"{place}/{self.context.folder}",
            "dockerfile": self.context.dockerfile,
            "target": self.stage,
            "platforms": [self.platform],
            "args": dict(self.args),
            "contexts": {**self.contexts, **{each.sent_as: f"{place}/{each.sent_as}" for each in self.folders}},
            "labels": dict(self.labels),
            "tags": list(self.tags),
            "secret": [_secret(secret) for secret in self.secrets if secret.ssh is None],
            "ssh": [_agent(secret) for secret in self.secrets if secret.ssh is not None],
            "output": [f"type={self.output.type},dest={self.output.dest}"] if self.output is not None else [],
            "entitlements": ["network.host"] if self.network == "host" else [],
        }
        return {key: value for key, value in given.items() if value}


@dataclass(frozen=True, slots=True)
class PrintedFile:
    """Targets, each behind those that it is made from, and groups of them."""

    targets: tuple[PrintedTarget, ...]
    groups: Mapping[str, tuple[str, ...]]

    @property
    def folders(self) -> dict[str, tuple[InputFile, ...]]:
        """Return the folders that it names, by what they are called, each with its files."""
        taken = {folder.sent_as: folder.files for target in self.targets for folder in target.folders}
        return taken | {target.context.folder: target.context.files for target in self.targets}

    def document(self, place: str) -> dict[str, Any]:
        """Return the file as JSON has it; contexts lie in the folder `place`, as seen from where bake runs."""
        document: dict[str, Any] = _escaped(
            {
                "group": {name: {"targets": list(targets)} for name, targets in self.groups.items()},
                "target": {target.name: target.document(place) for target in self.targets},
            }
        )
        return document


def bake_file(plan: Plan) -> PrintedFile:
    """Return the bake file of a plan, which has the contents of its files: a target a tier, and one for what it compiles."""
    names = {name: _target_name(name) for name in plan.tiers}
    targets = [target for tier in plan.tiers.values() for target in _targets(plan, tier, names)]
    groups = {group: tuple(names[tier] for tier in tiers) for group, tiers in plan.pipeline.groups.items()}
    return PrintedFile(tuple(targets), {_DEFAULT: tuple(names.values())} | groups)


def _target_name(tier: str) -> str:
    """Return the target's name; in bake's there are no dots, and in a tier's no underscores."""
    name = tier.replace(".", "_")
    return f"{name}_" if name == _DEFAULT else name


def _compile_name(target: str) -> str:
    return f"{target}__compile"


def _targets(plan: Plan, tier: TierPlan, names: Mapping[str, str]) -> Iterator[PrintedTarget]:
    name, platform, network = names[tier.name], plan.pipeline.platform, tier.config.network
    contexts = named_contexts(tier.contexts, {each: f"target:{names[each]}" for each in tier.contexts.tiers.values()})
    if tier.compile is not None:
        contexts[tier.compile.config.wheels_stage] = f"target:{_compile_name(name)}"
        yield _compile_target(plan, tier, tier.compile, names)
    args, parent = _with_parent(plan, tier.config.parent, tier.args, names)
    yield PrintedTarget(
        name=name,
        context=_context(name, tier.files, tier.dockerfile, network),
        platform=platform,
        stage=tier.target,
        args=args,
        contexts=contexts | parent,
        folders=tier.folders,
        labels=declared_labels(tier, plan.pipeline) if tier.config.output is None else {},
        tags=tier.tags if tier.config.output is None else (),
        secrets=tier.config.secrets,
        network=network,
        output=tier.config.output,
    )


def _compile_target(plan: Plan, tier: TierPlan, step: CompilePlan, names: Mapping[str, str]) -> PrintedTarget:
    """Return what stands for a compile: its stage, then its command as a RUN, with a folder of BuildKit's own for ccache."""
    name, network = _compile_name(names[tier.name]), tier.config.network
    args, parent = _with_parent(plan, step.parent, step.args, names)
    tiers = {each: f"target:{names[each]}" for each in step.contexts.tiers.values()}
    return PrintedTarget(
        name=name,
        context=_context(name, step.files, _compiling(step, tier), network),
        platform=plan.pipeline.platform,
        stage=_MADE,
        args=args,
        contexts=named_contexts(step.contexts, tiers) | parent,
        folders=step.folders,
        secrets=tier.config.secrets,
        network=network,
    )


def _with_parent(
    plan: Plan, parent: str | None, args: Mapping[str, str], names: Mapping[str, str]
) -> tuple[dict[str, str], dict[str, str]]:
    """Return build arguments and the context that the parent's image is.

    PARENT names an image that nobody has: with its slash and its tag it is no stage's name, and bake puts the target there.
    """
    if parent is None:
        return dict(args), {}
    image = f"tier/{parent}:{short(plan.tiers[parent].key)}"
    return {**args, PARENT_ARG: image}, {image: f"target:{names[parent]}"}


def _context(target: str, files: tuple[InputFile, ...], dockerfile: bytes, network: str | None) -> PrintedContext:
    """Return what doit sends, and beside it what a bake file cannot say, or a folder means otherwise than a tar.

    Versions of bake differ in whether a target has a network, so RUN has it; a .dockerignore would be followed, where it is a
    file like others. What stands in their place is no part of the context: it names itself as such.
    """
    sent = [input_file(DOCKERFILE, dockerfile), *files]
    if network is None and all(file.path != _IGNORE for file in files):
        return PrintedContext(target, tuple(sent), DOCKERFILE)
    own = dockerfile if network is None else with_network(dockerfile, network)
    ignored = f"{_OWN_DOCKERFILE}*\n"
    sent += [input_file(_OWN_DOCKERFILE, own), input_file(f"{_OWN_DOCKERFILE}{_IGNORE}", ignored.encode())]
    return PrintedContext(target, tuple(sent), _OWN_DOCKERFILE)


def _compiling(step: CompilePlan, tier: TierPlan) -> bytes:
    """Return the Dockerfile of a compile stage with the compile behind it, and then what it has made, alone."""
    config, settings = step.config, step.config.ccache
    made = WHEELS_DIR if config.outputs == ONLY_WHEELS else OUTPUTS_DIR
    env = {"WHEELS_DIR": made, "OUTPUTS_DIR": made, "HOME": "/tmp"}  # noqa: S108  in the container: any user may write there
    flags = [f"--network={step.key_document.network or 'none'}"]
    run: tuple[str, ...] = config.run
    if settings is not None:
        env |= {
            "CCACHE_DIR": CCACHE_DIR,
            "CCACHE_MAXSIZE": str(settings.max_size),
            "NVCC_PER_ARCH": str(int(settings.per_arch)),
        }
        flags.append(f"--mount=type=cache,id={step.namespace},target={CCACHE_DIR}")
        run = ("/bin/sh", "-c", _ALL_PROCESSORS, "imagetiers", *run)
    flags += [
        f"--mount=type=secret,id={each.id},target={SECRETS}/{each.id}" for each in tier.config.secrets if not each.ssh
    ]
    lines = [
        f"FROM scratch AS {_EMPTY}",
        f"WORKDIR {made}",
        f"FROM {config.stage} AS {_COMPILED}",
        "USER 0:0",
        f"COPY --from={_EMPTY} {made}/ {made}/",
        "ARG MAX_JOBS",
        f"ENV {' '.join(f'{name}={value}' for name, value in env.items())}",
        f"RUN {' '.join(flags)} {json.dumps(run)}",
        f"FROM scratch AS {_MADE}",
        f"COPY --from={_COMPILED} {made}/{'*.whl' if made == WHEELS_DIR else ''} /",
    ]
    return step.dockerfile + "".join(f"{line}\n" for line in lines).encode()


def _secret(secret: Secret) -> str:
    return f"id={secret.id},env={secret.env}" if secret.env is not None else f"id={secret.id},src={secret.file}"


def _agent(secret: Secret) -> str:
    return secret.id if secret.ssh == SSH_AGENT else f"{secret.id}={secret.ssh}"


def _escaped(value: Any) -> Any:
    """Write what bake would evaluate, in values and in keys, as text."""
    if isinstance(value, dict):
        return {_escaped(key): _escaped(each) for key, each in value.items()}
    if isinstance(value, list):
        return [_escaped(each) for each in value]
    return value.replace("${", "$${").replace("%{", "%%{") if isinstance(value, str) else value
