"""pipeline.yaml -> `model.Pipeline`. Beside `yamltree` and `schema`, the only code that sees the YAML's dicts."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from imagetiers.compat import TORCH_FAMILY
from imagetiers.errors import PipelineError, Problem
from imagetiers.forms import form_problems, parse_size
from imagetiers.gpus import GPUS, arch_list, cuda_targets, gpu_named
from imagetiers.layout import DEFAULT_CACHE, PIPELINE_FILE, PIPELINE_LOCK, Layout
from imagetiers.lockfile import GIT, IMAGES
from imagetiers.model import (
    Budget,
    CcacheSettings,
    CloudBuild,
    CompileStep,
    GitRef,
    Pipeline,
    Refresh,
    Secret,
    Tier,
    Verify,
)
from imagetiers.repository_file import read_file
from imagetiers.schema import did_you_mean, place, schema_problems
from imagetiers.yamltree import Node, Path, merge_patch, parse_yaml

__all__ = ["Config", "load_config", "parse_duration"]

_DAY, _SHORTEST = 86_400, 300
_SUBSTITUTION = re.compile(r"\$\{?(_[A-Z0-9_]+)")
_LOCKED = {  # sections of pipeline.lock.yaml: what a pin is
    IMAGES: (r"sha256:[0-9a-f]{64}", "digest", "sha256: and 64 hex digits"),
    GIT: (r"[0-9a-f]{40}|[0-9a-f]{64}", "commit", "40 hex digits"),
}
_RESERVED = {"PARENT": "the parent's image, which the plan sets", "REFRESH_EPOCH": "what refresh sets"}
_NOT_IN_VARIANTS = ("version", "name", "variants")


@dataclass(frozen=True, slots=True)
class Config:
    """The pipeline, as far as it could be read, its tree (for places), and everything that is wrong so far."""

    pipeline: Pipeline
    tree: Node
    problems: tuple[Problem, ...]
    variants: tuple[str, ...]

    def place(self, *path: str | int) -> str:
        """Return `pipeline.yaml:LINE:COL: path` of a value."""
        return place(self.tree, path, PIPELINE_FILE)


def parse_duration(text: str) -> int:
    """Return seconds: 90s, 45m, 3h, 3h30m. Raises ValueError."""
    match = re.fullmatch(r"(?:(\d+)h)?(?:(\d+)m)?(?:(\d+)s)?", text)
    if match is None or not text:
        raise ValueError(text)
    hours, minutes, seconds = (int(part or 0) for part in match.groups())
    return hours * 3600 + minutes * 60 + seconds


def load_config(layout: Layout, variant: str | None) -> Config:
    """Read pipeline.yaml and its lock, with `variant` applied.

    Raises PipelineError where reading on makes no sense (no file, no YAML, no such variant); all else that is wrong is in
    the result's `problems`, so that it can be told together with what is wrong in the tiers' files.
    """
    base = _read(layout)
    variants = base.value.get("variants") if isinstance(base.value, dict) else None
    names = tuple(variants.value) if variants and isinstance(variants.value, dict) else ()
    tree = base
    if variant is not None:
        if variant not in names:
            raise PipelineError(
                Problem("", f"variant={variant}: there is no such variant", did_you_mean(variant, names, "variants"))
            )
        patch = base.at(("variants", variant))
        if not isinstance(patch.value, dict):
            where = place(base, ("variants", variant), PIPELINE_FILE)
            raise PipelineError(
                Problem(where, "must be a mapping", "a merge patch over this file, such as {gpus: [A100]}")
            )
        tree = merge_patch(base, patch)
    problems = dict.fromkeys(_variant_problems(base, names))
    forms = dict(form_problems(tree, layout.root))
    problems.update(dict.fromkeys(forms.values()))
    wrong: set[Path] = set(forms)
    for path, problem in schema_problems(tree, layout.schema, PIPELINE_FILE, layout.state / "schema-passed"):
        wrong.add(path)
        if path not in forms:
            problems[problem] = None
    problems.update(dict.fromkeys(_reference_problems(tree)))
    pipeline = _pipeline(tree, variant, _pins(layout), wrong)
    return Config(pipeline, tree, tuple(problems), names)


def _read(layout: Layout) -> Node:
    data = read_file(layout.pipeline, PIPELINE_FILE)
    if data is None:
        raise PipelineError(Problem(PIPELINE_FILE, "there is no such file", "run doit where pipeline.yaml is"))
    tree = parse_yaml(data, PIPELINE_FILE)
    if not isinstance(tree.value, dict):
        raise PipelineError(Problem(f"{PIPELINE_FILE}:1:1", "must be a mapping", "begin with: version: 1"))
    return tree


def _pins(layout: Layout) -> dict[str, Mapping[str, str]]:
    """Read pipeline.lock.yaml: by section, references and what they are pinned to."""
    data = read_file(layout.lock, PIPELINE_LOCK)
    if data is None:
        return dict.fromkeys(_LOCKED, MappingProxyType({}))
    tree = parse_yaml(data, PIPELINE_LOCK)
    found: dict[str, Mapping[str, str]] = {}
    problems: list[Problem] = []
    for section in tree.value if isinstance(tree.value, dict) else ():
        if section not in _LOCKED:
            where = place(tree, (section,), PIPELINE_LOCK, key=True)
            problems.append(Problem(where, "there is no such section", did_you_mean(section, _LOCKED, "sections")))
    for section, (pattern, noun, hint) in _LOCKED.items():
        entries = tree.at((section,))
        if entries is tree and section != IMAGES:  # what has no git refs needs no place for them
            entries = Node({}, 1, 1)
        if entries is tree or not isinstance(entries.value, dict):
            where = place(tree, (section,), PIPELINE_LOCK)
            problems.append(Problem(where, f"has no mapping '{section}'", f"write: {section}: {{}}"))
            continue
        for ref, pin in entries.value.items():
            if not re.fullmatch(pattern, pin.text):
                where = place(tree, (section, ref), PIPELINE_LOCK)
                problems.append(Problem(where, f"is not a {noun}", hint))
        found[section] = MappingProxyType({ref: pin.text for ref, pin in entries.value.items()})
    PipelineError.raise_if(problems)
    return found


def _variant_problems(base: Node, names: tuple[str, ...]) -> Iterator[Problem]:
    for name in names:
        patch = base.at(("variants", name))
        for key in patch.value if isinstance(patch.value, dict) else ():
            if key in _NOT_IN_VARIANTS:
                where = place(base, ("variants", name, key), PIPELINE_FILE, key=True)
                yield Problem(where, "a variant cannot change this", "change the tiers, gpus, registry or cache")


def _reference_problems(tree: Node) -> Iterator[Problem]:
    """What a schema cannot say. Reads the tree and not the model, so that a wrong type elsewhere hides nothing."""
    yield from _parent_problems(tree)
    yield from _gpu_problems(tree)
    yield from _cloudbuild_problems(tree)
    yield from _channel_problems(tree)
    tiers = tree.at(("tiers",)).value
    for name, tier in tiers.items() if isinstance(tiers, dict) else ():
        plain = tier.plain()
        yield from _twice_problems(tree, name, plain)
        yield from _reserved_problems(tree, name, plain)
        args = plain.get("args") if isinstance(plain, dict) else None
        if isinstance(args, dict):
            yield from _family_problems(tree, name, args)


def _twice_problems(tree: Node, tier: str, plain: Any) -> Iterator[Problem]:
    """A build argument has one value: from args, from bases or from sources."""
    sections = {key: plain.get(key) for key in ("args", "bases", "sources")} if isinstance(plain, dict) else {}
    seen: dict[str, str] = {}
    for section, given in sections.items():
        for name in given if isinstance(given, dict) else ():
            if name in seen:
                where = place(tree, ("tiers", tier, section, name), PIPELINE_FILE, key=True)
                yield Problem(where, f"is given under {seen[name]}, too", "remove one of the two")
            seen.setdefault(name, section)


def _reserved_problems(tree: Node, tier: str, plain: Any) -> Iterator[Problem]:
    """The arguments that the plan sets cannot be given."""
    for section in ("args", "bases", "sources") if isinstance(plain, dict) else ():
        given = plain.get(section)
        for name in _RESERVED.keys() & set(given if isinstance(given, dict) else ()):
            where = place(tree, ("tiers", tier, section, name), PIPELINE_FILE, key=True)
            yield Problem(where, f"{name} is {_RESERVED[name]}", "remove it")


def _parent_problems(tree: Node) -> Iterator[Problem]:
    tiers = tree.at(("tiers",)).value
    if tree.at(("tiers",)) is tree or not isinstance(tiers, dict):
        return
    parents: dict[str, str] = {}
    for name, tier in tiers.items():
        given = tier.value.get("parent") if isinstance(tier.value, dict) else None
        if given is not None and isinstance(given.value, str):
            parents[name] = given.text
    told: set[str] = set()
    for name, parent in parents.items():
        where = place(tree, ("tiers", name, "parent"), PIPELINE_FILE)
        if parent not in tiers:
            others = [tier for tier in tiers if tier != name]
            yield Problem(where, f"there is no tier '{parent}'", did_you_mean(parent, others, "tiers"))
            continue
        circle = [name]
        up: str | None = parent
        while up is not None and up not in circle:
            circle.append(up)
            up = parents.get(up)
        if up == name and name not in told:
            told.update(circle)
            yield Problem(where, f"is its own ancestor: {' -> '.join([*circle, name])}", "give one of them other bases")


def _gpu_problems(tree: Node) -> Iterator[Problem]:
    gpus = tree.at(("gpus",))
    if gpus is tree or not isinstance(gpus.value, list):
        return
    toolkits = sorted(_toolkits(tree))
    seen: set[str] = set()
    for index, gpu in enumerate(gpus.value):
        where = place(tree, ("gpus", index), PIPELINE_FILE)
        if not isinstance(gpu.value, str):
            continue
        name = gpu_named(gpu.text)
        if name is None:
            close = did_you_mean(gpu.text.upper(), GPUS, "known")
            yield Problem(where, f"the GPU '{gpu.text[:40]}' is not known", close)
            continue
        if name in seen and gpu.text != name:  # twice in the same letters is what the schema says
            yield Problem(where, f"{name} stands there twice", "remove one of the two")
        seen.add(name)
        for version in toolkits:
            targets = cuda_targets(version)
            if targets is not None and GPUS[name] not in targets:
                shown = ".".join(map(str, version))
                what = f"CUDA {shown} cannot compile for {name} (compute capability {GPUS[name]})"
                yield Problem(where, what, "remove the GPU, or take bases with a CUDA that knows it")


def _toolkits(tree: Node) -> Iterator[tuple[int, int]]:
    tiers = tree.at(("tiers",)).value
    for tier in tiers.values() if isinstance(tiers, dict) else ():
        bases = tier.at(("bases",)).value if isinstance(tier.value, dict) and "bases" in tier.value else {}
        for ref in bases.values() if isinstance(bases, dict) else ():
            match = re.search(r"(?:^|/)cuda:(\d+)\.(\d+)", ref.text)
            if match:
                yield int(match[1]), int(match[2])


def _family_problems(tree: Node, tier: str, args: dict[str, Any]) -> Iterator[Problem]:
    torch = args.get("PYTORCH_VERSION")
    if torch not in TORCH_FAMILY:
        return
    for name, wanted in zip(("TORCHVISION_VERSION", "TORCHAUDIO_VERSION"), TORCH_FAMILY[torch], strict=True):
        given = args.get(name)
        if given is not None and given != wanted:
            where = place(tree, ("tiers", tier, "args", name), PIPELINE_FILE)
            yield Problem(where, f"{given} does not pair with PYTORCH_VERSION {torch}", f'write "{wanted}"')


def _channel_problems(tree: Node) -> Iterator[Problem]:
    given = tree.plain()
    if given.get("channels") is not None and given.get("registry") is None:
        what = "there is no registry, so nothing would ever be kept there"
        yield Problem(place(tree, ("channels",), PIPELINE_FILE), what, "registry: HOST/PATH, or channels: null")


def _cloudbuild_problems(tree: Node) -> Iterator[Problem]:
    """What Cloud Build would refuse, or do otherwise than meant."""
    section = tree.at(("cloudbuild",))
    given = section.plain() if section is not tree and isinstance(section.value, dict) else None
    if given is None:
        return
    try:
        settings = _cloudbuild(given, None)
    except (ValueError, TypeError, AttributeError):
        return  # the schema says what is wrong

    def problem(key: str, what: str, hint: str) -> Problem:
        shown = key if key in given else next(iter(given))
        return Problem(place(tree, ("cloudbuild", shown), PIPELINE_FILE), what, hint)

    if settings.timeout > _DAY:
        yield problem("timeout", "no build of Cloud Build may take longer than 24h", "write 24h or less")
    if settings.compile_timeout >= settings.timeout:
        what = "the compile's time-out is not below the build's, so the build would end before it"
        yield problem("compile_timeout", what, "leave the build the time to build, verify and push images after it")
    if settings.compile_timeout < _SHORTEST:
        yield problem("compile_timeout", "a compile step cannot end in order in so little time", "write 5m or more")
    for key in ("machine", "disk"):
        if settings.pool is not None and key in given:
            yield problem(key, "a private pool has a machine and a disk of its own", "set it where the pool is made")
    if settings.usd_per_hour is not None and not settings.cpus:
        what = "nobody says how many processors that machine has, so no record can be compared with it"
        yield problem("usd_per_hour", what, "processors: 32, or as many as it has")
    yield from _substitution_problems(tree, given, settings.substitutions)


def _substitution_problems(tree: Node, given: dict[str, Any], defined: Mapping[str, str]) -> Iterator[Problem]:
    texts = {key: value for key, value in given.items() if isinstance(value, str)}
    users = {name: ("cloudbuild", key) for key, text in texts.items() for name in _SUBSTITUTION.findall(text)}
    for other, text in defined.items():
        users |= dict.fromkeys(_SUBSTITUTION.findall(text), ("cloudbuild", "substitutions", other))
    for name, path in users.items():
        if name not in defined:
            what = f"the substitution {name} has no value"
            yield Problem(place(tree, path, PIPELINE_FILE), what, f"substitutions: {{{name}: ...}}")
    for name in defined:
        if name not in users:
            what = f"nothing uses the substitution {name}, and Cloud Build refuses such a build"
            yield Problem(place(tree, ("cloudbuild", "substitutions", name), PIPELINE_FILE), what, "remove it")


def _cloudbuild(given: dict[str, Any], registry: str | None) -> CloudBuild:
    values: dict[str, Any] = dict(given)
    for key in ("timeout", "compile_timeout", "queue_ttl"):
        if key in values:
            values[key] = parse_duration(values[key])
    if "substitutions" in values:
        values["substitutions"] = MappingProxyType(dict(values["substitutions"]))
    builder = values.pop("builder", None) or "/".join(part for part in (registry, "imagetiers-builder") if part)
    return CloudBuild(builder=builder, **values)


def _pipeline(tree: Node, variant: str | None, pins: dict[str, Mapping[str, str]], wrong: set[Path]) -> Pipeline:
    """Make the model of all that has no problem; tiers that have one are left out."""
    top: dict[str, Any] = tree.plain()
    broken = {path[1] for path in wrong if len(path) > 1 and path[0] == "tiers"}
    tiers = top.get("tiers") if ("tiers",) not in wrong else None
    given = top.get("gpus")
    listed = given if isinstance(given, list) else []
    settings = top.get("cloudbuild", {})
    ok = isinstance(settings, dict) and not any(path[:1] == ("cloudbuild",) for path in wrong)
    gpus = tuple(dict.fromkeys(gpu for name in listed if isinstance(name, str) and (gpu := gpu_named(name))))

    def good(key: str, default: Any) -> Any:
        return default if (key,) in wrong else top.get(key, default)

    return Pipeline(
        name=str(good("name", "")),
        variant=variant,
        registry=good("registry", None),
        cache=good("cache", DEFAULT_CACHE),
        platform=good("platform", "linux/amd64"),
        gpus=gpus,
        arch_list=arch_list(gpus),
        tiers=MappingProxyType(
            {
                name: _tier(name, tier, variant)
                for name, tier in (tiers if isinstance(tiers, dict) else {}).items()
                if name not in broken and isinstance(tier, dict)
            }
        ),
        cloudbuild=_cloudbuild(settings if ok else {}, good("registry", None)),
        pins=pins[IMAGES],
        commits=pins[GIT],
        channels=good("channels", None),
    )


def _tier(name: str, given: dict[str, Any], variant: str | None) -> Tier:
    budget = given.get("budget", {})
    return Tier(
        name=name,
        tag=given.get("tag") or variant or "latest",
        parent=given.get("parent"),
        bases=MappingProxyType(given.get("bases", {})),
        args=MappingProxyType(given.get("args", {})),
        sources=MappingProxyType(
            {name: GitRef(source["git"], source["ref"]) for name, source in sorted(given.get("sources", {}).items())}
        ),
        target=given.get("target"),
        compile=_compile_step(given["compile"]) if "compile" in given else None,
        verify=Verify(json.dumps(given.get("verify", {}), sort_keys=True)),
        budget=Budget(parse_size(budget["size"]) if "size" in budget else None),
        refresh=Refresh(given.get("refresh", "never")),
        secrets=tuple(Secret(id_, s.get("env"), s.get("file")) for id_, s in sorted(given.get("secrets", {}).items())),
    )


def _compile_step(given: dict[str, Any]) -> CompileStep:
    run = given["run"]
    ccache = given.get("ccache", {})
    return CompileStep(
        stage=given["stage"],
        run=(run,) if isinstance(run, str) else tuple(run),
        wheels_stage=given.get("wheels_stage", "wheels"),
        job_memory=parse_size(given.get("job_memory", "1G")),
        ccache=CcacheSettings(
            max_size=parse_size(ccache.get("max_size", "5G")),
            min_hit_rate=float(ccache.get("min_hit_rate", 0)),
            strict=bool(ccache.get("strict", False)),
            checkpoint_minutes=float(ccache.get("checkpoint_minutes", 5)),
        ),
    )
