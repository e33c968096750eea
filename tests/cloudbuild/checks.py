"""What Cloud Build would refuse in a build file: by its API's own types, by SchemaStore's schema, and what both miss."""

from __future__ import annotations

import importlib
import json
import re
from collections import Counter
from collections.abc import Iterator
from importlib.resources import files
from typing import Any

from google.protobuf import json_format
from jsonschema import Draft7Validator

Json = dict[str, Any]

BUILT_IN = {
    *("PROJECT_ID", "PROJECT_NUMBER", "LOCATION", "BUILD_ID", "TRIGGER_NAME", "REPO_NAME", "REPO_FULL_NAME"),
    *("BRANCH_NAME", "TAG_NAME", "REVISION_ID", "COMMIT_SHA", "SHORT_SHA", "REF_NAME", "SERVICE_ACCOUNT_EMAIL"),
}
DEFAULT_POOL = {"E2_MEDIUM", "E2_STANDARD_2", "E2_HIGHCPU_8", "E2_HIGHCPU_32"}
RESERVED = ("/workspace", "/builder/home", "/builder/outputs", "/var/run/docker.sock")
DAY = 86_400


def problems(build: Json) -> list[str]:
    """Return everything that is wrong, one line each."""
    checks = (_types, _schema, _order, _volumes, _timeouts, _substitutions, _machine, _account, _secrets, _targets)
    return [problem for check in checks for problem in check(build)]


def _types(build: Json) -> Iterator[str]:
    # Not an import statement: mypy would then take google.cloud for a package that has only this module.
    api: Any = importlib.import_module("google.cloud.devtools.cloudbuild_v1")
    try:
        json_format.ParseDict(build, api.Build.pb()())
    except json_format.ParseError as error:
        yield f"the API's types: {error}"


def _schema(build: Json) -> Iterator[str]:
    text = (files("check_jsonschema") / "builtin_schemas" / "vendor" / "cloudbuild.json").read_text(encoding="utf-8")
    for error in Draft7Validator(json.loads(text)).iter_errors(build):
        path = "/".join(map(str, error.absolute_path))
        known_gap = path in {"options/machineType", "options/diskSizeGb"}  # it lacks E2_STANDARD_2, and allows 2,000 GB
        if not known_gap:
            yield f"the schema: {path}: {error.message[:200]}"


def _order(build: Json) -> Iterator[str]:
    before: set[str] = set()
    for step in build["steps"]:
        for id_ in step.get("waitFor", []):
            if id_ != "-" and id_ not in before:
                yield f"step {step.get('id')} waits for {id_}, which is no step before it"
        if step.get("id") in before:
            yield f"two steps are called {step['id']}"
        before.add(step.get("id", ""))
    if len(build["steps"]) > 300:
        yield "more than 300 steps"


def _volumes(build: Json) -> Iterator[str]:
    volumes = [volume for step in build["steps"] for volume in step.get("volumes", [])]
    for name, count in Counter(volume["name"] for volume in volumes).items():
        if count < 2:
            yield f"the volume {name} is in one step only"
    for path in {volume["path"] for volume in volumes}:
        if not path.startswith("/") or any(path == r or path.startswith(f"{r}/") for r in RESERVED):
            yield f"the volume's path {path} is relative or reserved"


def _seconds(text: str) -> float:
    return float(text[:-1]) if re.fullmatch(r"\d+s", text) else 0.0  # the API's types tell the rest


def _timeouts(build: Json) -> Iterator[str]:
    whole = _seconds(build.get("timeout", "3600s"))
    if whole > DAY:
        yield "the build's timeout is above 24 h"
    for step in build["steps"]:
        if "timeout" in step and _seconds(step["timeout"]) >= whole:
            yield f"step {step['id']}'s timeout is not below the build's"
        own = [_seconds(arg.partition("=")[2]) for arg in step.get("args", []) if arg.startswith("--timeout=")]
        if own and own[0] >= _seconds(step.get("timeout", "0s")):
            yield f"step {step['id']} ends doit before doit ends its compile"


def _substitutions(build: Json) -> Iterator[str]:
    defined = build.get("substitutions", {})
    for name in defined:
        if not re.fullmatch(r"_[A-Z0-9_]{1,99}", name):
            yield f"the substitution {name} has no underscore before it"
    rest = {key: value for key, value in build.items() if key != "substitutions"}
    text = json.dumps(rest) + " ".join(map(str, defined.values()))
    used = {a or b for a, b in re.findall(r"(?<!\$)\$(?:\{(\w+)\}|([A-Z_][A-Z0-9_]*))", text)}
    for name in sorted(used - set(defined) - BUILT_IN):
        yield f"the substitution {name} is used and not defined"
    for name in sorted(set(defined) - used):
        yield f"the substitution {name} is defined and not used"
    if "$" in "".join(map(str, defined.values())) and not build["options"].get("dynamicSubstitutions"):
        yield "substitutions in substitutions need dynamicSubstitutions"


def _machine(build: Json) -> Iterator[str]:
    options = build.get("options", {})
    if "pool" in options:
        if {"machineType", "diskSizeGb"} & set(options):
            yield "a private pool has its own machine and disk"
    elif options.get("machineType", "E2_STANDARD_2") not in DEFAULT_POOL:
        yield f"the default pool has no {options['machineType']}"
    if int(options.get("diskSizeGb", 0)) > 4000:
        yield "no disk is above 4000 GB"


def _account(build: Json) -> Iterator[str]:
    logging = build.get("options", {}).get("logging")
    if "serviceAccount" not in build:
        yield "the build has Cloud Build's own account"
    elif logging != "CLOUD_LOGGING_ONLY" and "logsBucket" not in build:
        yield "an own service account needs a logs bucket or CLOUD_LOGGING_ONLY"


def _secrets(build: Json) -> Iterator[str]:
    given = {secret["env"] for secret in build.get("availableSecrets", {}).get("secretManager", [])}
    used = {env for step in build["steps"] for env in step.get("secretEnv", [])}
    if given != used:
        yield f"secrets: given {sorted(given)}, used {sorted(used)}"


def _targets(build: Json) -> Iterator[str]:
    for step in build["steps"]:
        if step.get("entrypoint") != "doit" or "script" in step:
            yield f"step {step['id']} does something else than calling doit"
