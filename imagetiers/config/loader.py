"""pipeline.yaml -> `model.Pipeline`. Beside `yamltree` and `schema`, the only code that sees the YAML's dicts."""

from __future__ import annotations

import base64
import json
import pathlib
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from imagetiers.config.chains import ancestors, chain_problems, links
from imagetiers.config.check_problems import check_problems
from imagetiers.config.checks import read_checks
from imagetiers.config.contexts import context_problems, read_contexts
from imagetiers.config.expansion import Expanded, expand, is_shorthand, uses_shorthand
from imagetiers.config.forms import form_problems
from imagetiers.config.gpu_problems import gpu_problems, read_gpus, toolkit_of
from imagetiers.config.interpolation import REFERENCE
from imagetiers.config.layout import DEFAULT_CACHE, DOCKERFILE, PIPELINE_FILE, PIPELINE_LOCK, Layout
from imagetiers.config.lockfile import GIT, IMAGES
from imagetiers.config.model import (
    MOST_ANCESTORS,
    NOTHING_GIVEN,
    ONLY_WHEELS,
    Budget,
    BuildFolderSettings,
    CcacheSettings,
    CloudBuild,
    CloudBuildKeys,
    CompileStep,
    GitRef,
    Pipeline,
    Refresh,
    Secret,
    Tier,
    TrustedKey,
    TrustSettings,
    Verify,
)
from imagetiers.config.names import name_problems
from imagetiers.config.output import output_problems, read_output
from imagetiers.config.quantities import parse_age, parse_duration, parse_size
from imagetiers.config.schema import cut, place, schema_mark, schema_problems
from imagetiers.config.supply_chain import read_supply_chain, supply_chain_problems
from imagetiers.config.torch_family import TORCH_FAMILY
from imagetiers.config.variables import raise_if_undeclared
from imagetiers.config.variants import bases_of, patched, same_tag_problems, variant_names, variant_problems
from imagetiers.config.waivers import is_day, read_scan, read_waivers, waiver_problems
from imagetiers.config.yamltree import Node, Path, parse_yaml
from imagetiers.errors import PipelineError, Problem
from imagetiers.repository_file import Reads, read_file
from imagetiers.suggestions import did_you_mean

__all__ = ["Config", "load_config"]

_DAY, _SHORTEST = 86_400, 300
_KEY = re.compile(r"[A-Za-z0-9+/]{43}=")  # 32 bytes: an ed25519 public key, RFC 8032
_SUBSTITUTION = re.compile(r"\$\{?(_[A-Z0-9_]+)")
_LOCKED = {  # sections of pipeline.lock.yaml: what a pin is
    IMAGES: (r"sha256:[0-9a-f]{64}", "digest", "sha256: and 64 hex digits"),
    GIT: (r"[0-9a-f]{40}|[0-9a-f]{64}", "commit", "40 hex digits"),
}
_RESERVED = {"PARENT": "the parent's image, which the plan sets", "REFRESH_EPOCH": "what refresh sets"}
_MOST_TIERS, _MOST_VARIANTS = 10_000, 100  # as the schema has them
_OF_CCACHE = frozenset({"ccache", "build_folder"})  # keys of a compile step


@dataclass(frozen=True, slots=True)
class Config:
    """The pipeline, as far as it could be read, its tree (for places), and everything that is wrong so far.

    The tree has no shorthand any more: `expanded` says what that was. `marks` are the files that spare the next reading the
    check by the schema, once they are there.
    """

    pipeline: Pipeline
    expanded: Expanded
    problems: tuple[Problem, ...]
    variants: tuple[str, ...]
    marks: tuple[pathlib.Path, ...]

    @property
    def tree(self) -> Node:
        """What the file comes to."""
        return self.expanded.tree

    def place(self, *path: str | int) -> str:
        """Return `pipeline.yaml:LINE:COL: path` of a value."""
        return place(self.tree, path, PIPELINE_FILE)


def load_config(
    layout: Layout, variant: str | None, reads: Reads | None = None, given: Mapping[str, str] = NOTHING_GIVEN
) -> Config:
    """Read pipeline.yaml and its lock, with `variant` applied and the variables `given`; `reads` notes what is looked at.

    Raises UndeclaredError for a variable that there is not, and PipelineError where reading on makes no sense (no file, no
    YAML, no such variant); all else that is wrong is in the result's `problems`, so that it can be reported together with
    what is wrong in the tiers' files.
    """
    reads = Reads() if reads is None else reads
    base, may_refer = _read(layout, reads)
    raise_if_undeclared(base, given)
    written = patched(base, variant)
    _raise_if_too_many(base, written)
    problems = dict.fromkeys(variant_problems(base))
    expanded, marks = Expanded(written), []
    if uses_shorthand(written, may_refer=may_refer):
        marks.append(_mark(layout, written))
        shorthand = dict(schema_problems(written, PIPELINE_FILE, marks[0]))
        problems.update({problem: None for path, problem in shorthand.items() if is_shorthand(path)})
        expanded = expand(written, given, reads, frozenset(filter(is_shorthand, shorthand)))
        _raise_if_too_many(base, expanded.tree)
    tree = expanded.tree
    problems.update(dict.fromkeys(expanded.problems))
    forms = {path: problem for path, problem in form_problems(tree, layout.root, reads) if path not in expanded.wrong}
    problems.update(dict.fromkeys(forms.values()))
    wrong: set[Path] = {*expanded.wrong, *forms}
    marks.append(_mark(layout, tree))
    for path, problem in schema_problems(tree, PIPELINE_FILE, marks[-1]):
        if path not in expanded.wrong and path not in forms:
            problems[problem] = None
        wrong.add(path)
    problems.update(dict.fromkeys(_reference_problems(expanded)))
    if variant is not None:
        for other in (None, *bases_of(base, variant)):
            usual = patched(base, other)
            usual = usual if tree is written else expand(usual, given, reads, expanded.wrong).tree
            problems.update(dict.fromkeys(same_tag_problems(usual, other, tree, variant)))
    problems.update(dict.fromkeys(_cloudbuild_problems(tree, wrong)))
    pins = _pins(layout, problems, reads)
    pipeline = _pipeline(expanded, variant, pins, wrong, given)
    problems.update(dict.fromkeys(name_problems(pipeline, tree)))
    return Config(pipeline, expanded, tuple(problems), variant_names(base), tuple(marks))


def _mark(layout: Layout, tree: Node) -> pathlib.Path:
    return layout.state / "schema-passed" / schema_mark(tree)


def _raise_if_too_many(base: Node, tree: Node) -> None:
    """Stop where a pipeline was generated by mistake: reading on would take minutes, and nobody would read the result."""
    for key, node, most in (
        ("variants", base.at(("variants",)), _MOST_VARIANTS),
        ("tiers", tree.at(("tiers",)), _MOST_TIERS),
    ):
        if node is not base and node is not tree and isinstance(node.value, dict) and len(node.value) > most:
            where = f"{PIPELINE_FILE}:{node.line}:{node.column}: {key}"
            raise PipelineError(Problem(where, f"has {len(node.value):,} entries; the limit is {most:,}", "keep fewer"))


def _read(layout: Layout, reads: Reads) -> tuple[Node, bool]:
    """Return the tree, and whether it may hold references: then their characters stand in the file, plain or escaped."""
    data = read_file(layout.pipeline, PIPELINE_FILE, reads)
    if data is None:
        raise PipelineError(
            Problem(PIPELINE_FILE, "there is no such file", "run doit where it is; imagetiers init writes one")
        )
    tree = parse_yaml(data, PIPELINE_FILE)
    if not isinstance(tree.value, dict):
        raise PipelineError(Problem(f"{PIPELINE_FILE}:1:1", "must be a mapping", "begin with: version: 1"))
    return tree, REFERENCE.encode() in data or b"\\" in data


def _pins(layout: Layout, problems: dict[Problem, None], reads: Reads) -> dict[str, Mapping[str, str]]:
    """Read pipeline.lock.yaml: by section, references and what they are pinned to. Adds to `problems` what is wrong."""
    found: dict[str, Mapping[str, str]] = dict.fromkeys(_LOCKED, MappingProxyType({}))
    try:
        data = read_file(layout.lock, PIPELINE_LOCK, reads)
        tree = Node({}, 1, 1) if data is None else parse_yaml(data, PIPELINE_LOCK)
    except PipelineError as error:
        problems.update(dict.fromkeys(error.problems))
        return found
    if data is None:
        return found
    meant: set[str] = set()
    for section in tree.value if isinstance(tree.value, dict) else ():
        if section not in _LOCKED:
            where = place(tree, (section,), PIPELINE_LOCK, key=True)
            hint = did_you_mean(section, _LOCKED, "sections")
            meant.update(name for name in _LOCKED if hint == f"did you mean '{name}'?")
            problems[Problem(where, "there is no such section", hint)] = None
    for section, (pattern, noun, hint) in _LOCKED.items():
        entries = tree.at((section,))
        if entries is tree and (section != IMAGES or section in meant):  # what has no git refs needs no place for them
            entries = Node({}, 1, 1)
        if entries is tree or not isinstance(entries.value, dict):
            where = place(tree, (section,), PIPELINE_LOCK)
            problems[Problem(where, f"has no mapping '{section}'", f"write: {section}: {{}}")] = None
            continue
        for ref, pin in entries.value.items():
            if not re.fullmatch(pattern, pin.text):
                where = place(tree, (section, ref), PIPELINE_LOCK)
                problems[Problem(where, f"is not a {noun}", hint)] = None
        found[section] = MappingProxyType({ref: pin.text for ref, pin in entries.value.items()})
    return found


def _reference_problems(expanded: Expanded) -> Iterator[Problem]:
    """What a schema cannot say. Reads the tree and not the model, so that a wrong type elsewhere hides nothing."""
    tree = expanded.tree
    yield from _parent_problems(expanded)
    yield from context_problems(tree)
    yield from output_problems(tree)
    yield from gpu_problems(tree)
    yield from _channel_problems(tree)
    yield from _trust_problems(tree)
    yield from waiver_problems(tree)
    yield from supply_chain_problems(tree)
    tiers = tree.at(("tiers",)).value
    for name, tier in tiers.items() if isinstance(tiers, dict) else ():
        plain = tier.plain()
        yield from _twice_problems(tree, name, plain)
        yield from _reserved_problems(tree, name, plain)
        yield from check_problems(tree, name)
        yield from _cache_problems(tree, name, plain)
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


def _cache_problems(tree: Node, tier: str, plain: Any) -> Iterator[Problem]:
    """Without a compiler cache there is nothing to set of it, and nothing that could make up for what a kept folder lacks."""
    step = plain.get("compile") if isinstance(plain, dict) else None
    if not isinstance(step, dict) or step.get("cache") != "none":
        return
    for key in _OF_CCACHE & step.keys():
        where = place(tree, ("tiers", tier, "compile", key), PIPELINE_FILE, key=True)
        yield Problem(where, "means nothing with cache: none", "remove one of the two")


def _parent_problems(expanded: Expanded) -> Iterator[Problem]:
    tree = expanded.tree
    tiers = tree.at(("tiers",)).value
    if tree.at(("tiers",)) is tree or not isinstance(tiers, dict):
        return
    given = links(tiers, "parent").items()
    parents = {name: parent for name, parent in given if ("tiers", name, "parent") not in expanded.wrong}
    cure = "give one of them other bases"
    yield from chain_problems(tree, "tiers", "parent", parents, cure, others=expanded.families)
    for name, count in ancestors(parents).items():
        if count == MOST_ANCESTORS + 1:  # the first that is too deep; its children are no news
            what = f"has {count} ancestors; the limit is {MOST_ANCESTORS}, because an image has at most 127 layers"
            yield Problem(place(tree, ("tiers", name, "parent"), PIPELINE_FILE), what, cure)


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


def _trust_problems(tree: Node) -> Iterator[Problem]:
    """What a schema cannot say of keys: twice the same name, no key, no day; a demand that nothing could meet."""
    section = tree.at(("trust",))
    given = section.plain() if section is not tree and isinstance(section.value, dict) else {}
    keys = given.get("keys", [])
    names: set[str] = set()
    for index, key in enumerate(keys if isinstance(keys, list) else ()):
        if not isinstance(key, dict):
            continue
        name, bits, day = key.get("name"), key.get("ed25519"), key.get("revoked")
        if isinstance(name, str) and name in names:
            yield Problem(
                place(tree, ("trust", "keys", index, "name"), PIPELINE_FILE), "there are two keys of that name"
            )
        names |= {name} if isinstance(name, str) else set()
        if isinstance(bits, str) and _KEY.fullmatch(bits) and not _is_key(bits):
            where = place(tree, ("trust", "keys", index, "ed25519"), PIPELINE_FILE)
            yield Problem(where, "is not a public key: 32 bytes in Base64", "doit trust:init --out FILE makes a pair")
        if isinstance(day, str) and not is_day(day):
            where = place(tree, ("trust", "keys", index, "revoked"), PIPELINE_FILE)
            yield Problem(where, "is not a day", "such as 2027-01-31")
    if "max_age" in given and given.get("require") is not True:
        where = place(tree, ("trust", "max_age"), PIPELINE_FILE)
        yield Problem(where, "means nothing without require: true", "set that, or remove this")
    if given.get("require") is True and not keys:
        where = place(tree, ("trust", "require"), PIPELINE_FILE)
        yield Problem(
            where, "there are no keys, so nothing in the cache would ever count", "keys: [...], or require: false"
        )


def _is_key(text: str) -> bool:
    """Say whether these are 32 bytes in the one way that Base64 writes them: keys are compared as texts."""
    return base64.b64encode(base64.b64decode(text)).decode() == text


def _trust(given: Any) -> TrustSettings:
    keys = tuple(TrustedKey(key["name"], key["ed25519"], key.get("revoked")) for key in given.get("keys", ()))
    age = parse_age(given["max_age"]) if "max_age" in given else None
    return TrustSettings(keys, require=bool(given.get("require", False)), max_age=age)


def _cloudbuild_problems(tree: Node, wrong: set[Path]) -> Iterator[Problem]:
    """What Cloud Build would refuse, or do otherwise than meant; of the keys that are not `wrong` anyhow."""
    section = tree.at(("cloudbuild",))
    if section is tree or not isinstance(section.value, dict):
        return
    keys = {path[1] for path in wrong if path[0:1] == ("cloudbuild",) and len(path) > 1}
    given = {key: value for key, value in section.plain().items() if key not in keys}
    settings = _cloudbuild(given, None)

    def problem(key: str, what: str, hint: str) -> Problem:
        shown = key if key in given else next(iter(given))
        return Problem(place(tree, ("cloudbuild", shown), PIPELINE_FILE), what, hint)

    if settings.timeout > _DAY:
        yield problem("timeout", "no build of Cloud Build may take longer than 24h", "write 24h or less")
    if settings.compile_timeout >= settings.timeout:
        what = "the compile's time-out is not below the build's, so the build would end before it"
        yield problem("compile_timeout", what, "leave the build the time to build, verify and push images after it")
    if settings.compile_timeout < _SHORTEST:
        yield problem("compile_timeout", "a compile step cannot end gracefully in so little time", "write 5m or more")
    for key in ("machine", "disk"):
        if settings.pool is not None and key in given:
            yield problem(key, "a private pool has a machine and a disk of its own", "set it where the pool is made")
    if settings.usd_per_hour is not None and not settings.cpus:
        what = "nobody says how many processors that machine has, so no record can be compared with it"
        yield problem("usd_per_hour", what, "processors: 32, or as many as it has")
    if "substitutions" not in keys:
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
            what = f"nothing uses the substitution {cut(name)}, and Cloud Build refuses such a build"
            yield Problem(place(tree, ("cloudbuild", "substitutions", name), PIPELINE_FILE), what, "remove it")


def _cloudbuild(given: dict[str, Any], registry: str | None) -> CloudBuild:
    values: dict[str, Any] = dict(given)
    for key in ("timeout", "compile_timeout", "queue_ttl"):
        if key in values:
            values[key] = parse_duration(values[key])
    if "substitutions" in values:
        values["substitutions"] = MappingProxyType(dict(values["substitutions"]))
    if "keys" in values:
        values["keys"] = CloudBuildKeys(**values["keys"])
    builder = values.pop("builder", None) or "/".join(part for part in (registry, "imagetiers-builder") if part)
    return CloudBuild(builder=builder, **values)


def _pipeline(
    expanded: Expanded,
    variant: str | None,
    pins: dict[str, Mapping[str, str]],
    wrong: set[Path],
    given: Mapping[str, str],
) -> Pipeline:
    """Make the model of all that has no problem; tiers that have one are left out."""
    tree = expanded.tree
    top: dict[str, Any] = tree.plain()
    broken = {path[1] for path in wrong if len(path) > 1 and path[0] == "tiers"}
    tiers = top.get("tiers") if ("tiers",) not in wrong else None
    gpu_list = top.get("gpus")
    listed = gpu_list if isinstance(gpu_list, list) else []
    settings = top.get("cloudbuild", {})
    ok = isinstance(settings, dict) and not any(path[:1] == ("cloudbuild",) for path in wrong)
    gpus, architectures = read_gpus(listed)
    whole = tiers if isinstance(tiers, dict) else {}

    def good(key: str, default: Any) -> Any:
        return default if (key,) in wrong else top.get(key, default)

    return Pipeline(
        name=str(good("name", "")),
        variant=variant,
        given=MappingProxyType(dict(given)),
        registry=good("registry", None),
        cache=good("cache", DEFAULT_CACHE),
        platform=good("platform", "linux/amd64"),
        gpus=gpus,
        architectures=architectures,
        cuda=toolkit_of(tier for tier in whole.values() if isinstance(tier, dict)),
        tiers=MappingProxyType(
            {
                name: _tier(name, tier, variant)
                for name, tier in whole.items()
                if name not in broken and isinstance(tier, dict)
            }
        ),
        groups=MappingProxyType(
            {} if any(path[:1] == ("groups",) for path in wrong) else _groups(top.get("groups", {}))
        ),
        cloudbuild=_cloudbuild(settings if ok else {}, good("registry", None)),
        pins=pins[IMAGES],
        commits=pins[GIT],
        channels=good("channels", None),
        compression=good("compression", "gzip"),
        hadolint=good("hadolint", "if-installed"),
        waivers=tuple(read_waivers(tree, wrong, expanded.families)),
        scan=read_scan(tree, wrong),
        supply_chain=read_supply_chain(tree, wrong),
        trust=_trust({} if any(path[:1] == ("trust",) for path in wrong) else top.get("trust", {})),
    )


def _groups(given: Any) -> dict[str, tuple[str, ...]]:
    return {name: tuple(tiers) for name, tiers in given.items()}


def _tier(name: str, given: dict[str, Any], variant: str | None) -> Tier:
    budget = given.get("budget", {})
    return Tier(
        name=name,
        tag=given.get("tag") or variant or "latest",
        folder=given.get("folder"),
        dockerfile=given.get("dockerfile", DOCKERFILE),
        parent=given.get("parent"),
        bases=MappingProxyType(given.get("bases", {})),
        contexts=read_contexts(given.get("contexts", {})),
        tags=tuple(given.get("tags", ())),
        image=given.get("image"),
        labels=MappingProxyType(given.get("labels", {})),
        output=read_output(given.get("output")),
        args=MappingProxyType(given.get("args", {})),
        sources=MappingProxyType(
            {name: GitRef(source["git"], source["ref"]) for name, source in sorted(given.get("sources", {}).items())}
        ),
        target=given.get("target"),
        compile=_compile_step(given["compile"]) if "compile" in given else None,
        verify=_verify(given.get("verify", {})),
        budget=Budget(**{key: parse_size(value) for key, value in budget.items()}),
        refresh=Refresh(given.get("refresh", "never")),
        secrets=tuple(
            Secret(id_, s.get("env"), s.get("file"), s.get("ssh"))
            for id_, s in sorted(given.get("secrets", {}).items())
        ),
        network=given.get("network"),
    )


def _verify(given: dict[str, Any]) -> Verify:
    declared = {name: value for name, value in given.items() if name not in {"timeout", "device_code", "params"}}
    return Verify(
        read_checks(declared),
        json.dumps(declared, sort_keys=True),
        json.dumps(given.get("params", {}), sort_keys=True),
        parse_duration(given.get("timeout", "30m")),
        tuple(given.get("device_code", {}).get("others", ())),
    )


def _compile_step(given: dict[str, Any]) -> CompileStep:
    run = given["run"]
    outputs = tuple(sorted(given.get("outputs", ONLY_WHEELS)))
    return CompileStep(
        stage=given["stage"],
        run=(run,) if isinstance(run, str) else tuple(run),
        wheels_stage=given.get("wheels_stage", "wheels" if outputs == ONLY_WHEELS else "outputs"),
        cuda=given.get("cuda"),
        share_layers=bool(given.get("share_layers", False)),
        job_memory=parse_size(given.get("job_memory", "1G")),
        memory=parse_size(given["memory"]) if "memory" in given else None,
        build_folder=_build_folder(given["build_folder"]) if "build_folder" in given else None,
        ccache=_ccache(given.get("ccache", {})) if given.get("cache", "ccache") == "ccache" else None,
        outputs=outputs,
    )


def _ccache(given: dict[str, Any]) -> CcacheSettings:
    return CcacheSettings(
        max_size=parse_size(given.get("max_size", "5G")),
        min_hit_rate=float(given.get("min_hit_rate", 0)),
        strict=bool(given.get("strict", False)),
        checkpoint_minutes=float(given.get("checkpoint_minutes", 5)),
        per_arch=bool(given.get("per_arch", True)),
    )


def _build_folder(given: dict[str, Any]) -> BuildFolderSettings:
    return BuildFolderSettings(parse_size(given.get("max_size", "2G")), given.get("keep", 2))
