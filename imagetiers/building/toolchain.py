"""What a compile step compiles with, and whether it has what it needs: asked of its builder image, which alone knows."""

from __future__ import annotations

import secrets
from dataclasses import dataclass, replace

from imagetiers.building.deadline import Deadline
from imagetiers.ccache.format.fingerprint import Compiler, Fingerprint
from imagetiers.config.model import ARCH_LIST_ARG
from imagetiers.errors import BuildError, Problem
from imagetiers.planning.containers import Container
from imagetiers.planning.plan import CompilePlan
from imagetiers.services import Services

__all__ = ["Toolchain", "not_started", "probe"]

_LOOK_FOR = r"""
for name; do command -v "$name" >/dev/null || printf 'missing\t%s\n' "$name"; done
"""
_ASK = r"""
if command -v ccache >/dev/null; then
  printf 'ccache\t%s\n' "$(ccache --version | sed -n '1s/.* //p')"
  ccache --show-config 2>/dev/null | grep -v '^(default)' | sed 's/^/setting\t/'
fi
for name in cc c++ gcc g++ clang clang++ nvcc; do
  path=$(command -v "$name") || continue
  sum=$(sha256sum <"$(readlink -f "$path")")
  printf 'compiler\t%s\t%s\t%s\n' "$name" "${sum%% *}" "$("$path" --version 2>&1 | grep -m1 '[0-9]\.[0-9]')"
done
"""
_SHELL = "/bin/sh"
_TAKE_SECRETS = ("dd", "wc")
_STOP_SECONDS = 1
_CANNOT_RUN = 127  # exit code of what is not there, by the container's init
_HINT = "install it in that stage, or correct the step"
_HOST_SETTINGS = ("cache_dir", "max_size", "stats_log", "temporary_dir")  # ours, or without effect on what hits


@dataclass(frozen=True, slots=True)
class Toolchain:
    """`ccache` is its version, empty where the image has none. `missing` are programs that are needed and not there."""

    ccache: str
    fingerprint: Fingerprint
    missing: tuple[str, ...] = ()


def probe(task: str, step: CompilePlan, services: Services, deadline: Deadline, *, takes_secrets: bool) -> Toolchain:
    """Ask the builder image for what the step needs, its compilers and its ccache.

    Raises BuildError, before hours have passed, with all that is not there, and when the time is over; EngineError.
    In either case its container is gone.

    A step without secrets and compiler cache runs nothing but its own program, and is asked for nothing.
    """
    if step.config.ccache is None and not takes_secrets:
        return _read(step, [])
    ask = _LOOK_FOR + (_ASK if step.config.ccache is not None else "")
    container = Container(
        name=f"imagetiers-probe-{step.key[:12]}-{secrets.token_hex(4)}",
        image=step.builder,
        argv=(_SHELL, "-c", ask, "imagetiers", step.config.run[0], *(_TAKE_SECRETS if takes_secrets else ())),
        user=f"{services.user[0]}:{services.user[1]}",
        env={"HOME": "/tmp", "CCACHE_DIR": "/tmp/ccache"},  # noqa: S108  in the container
    )
    lines: list[str] = []
    deadline.check(task)
    started = services.engine.start(container)
    try:
        with deadline.stops(lambda: services.engine.stop(started, _STOP_SECONDS)):
            code = deadline.to_the_end(lambda: services.engine.follow(started, lines.append))
    except TimeoutError:
        raise deadline.error(task) from None
    finally:
        services.engine.remove(started)
    deadline.check(task)
    found = _read(step, lines)
    if code == _CANNOT_RUN:
        found = replace(found, missing=(_SHELL,))
    BuildError.raise_if(_lacking(task, step, found))
    return found


def not_started(task: str, step: CompilePlan, code: int, told: str) -> Problem | None:
    """Say that the step's own program is not there, where nothing was asked before: by what a container's init has told."""
    if step.config.ccache is not None or code != _CANNOT_RUN or f"exec {step.config.run[0]} failed" not in told:
        return None
    return _lacking(task, step, Toolchain("", Fingerprint({}), (step.config.run[0],)))[0]


def _lacking(task: str, step: CompilePlan, toolchain: Toolchain) -> list[Problem]:
    """Say what the stage lacks; with `strict` that may be ccache, without which the compile can never be warm."""
    stage, settings = f"the stage '{step.config.stage}'", step.config.ccache
    problems = [Problem(task, f"{stage} has no {name}, {_why_needed(step, name)}", _HINT) for name in toolchain.missing]
    if settings is not None and settings.strict and not toolchain.ccache and toolchain.missing != (_SHELL,):
        what = f"{stage} has no ccache on its PATH, so no compile of it can be warm (strict: true)"
        problems.append(Problem(task, what, "install ccache there; strict: false compiles without it"))
    return problems


def _why_needed(step: CompilePlan, name: str) -> str:
    if name == _SHELL:
        return "which starts what has a compiler cache or secrets"
    return "which compile.run names" if name == step.config.run[0] else "which takes the secrets"


def _read(step: CompilePlan, lines: list[str]) -> Toolchain:
    version = ""
    settings: dict[str, str] = {}
    compilers: dict[str, Compiler] = {}
    missing: list[str] = []
    for line in lines:
        kind, *fields = line.split("\t")
        if kind == "ccache" and fields:
            version = fields[0].strip()
        elif kind == "missing" and fields:
            missing.append(fields[0])
        elif kind == "setting" and fields and " = " in fields[0]:
            name, _, value = fields[0].partition(") ")[2].partition(" = ")
            if name not in _HOST_SETTINGS:
                settings[name] = value
        elif kind == "compiler" and len(fields) == 3:  # noqa: PLR2004  name, hash, version
            compilers[fields[0]] = Compiler(fields[2], fields[1])
    args = step.key_document.args
    flags = [f"{name}={value}" for name, value in sorted(args.items()) if name != ARCH_LIST_ARG]
    flags += [f"{path} ({digest[:12]})" for path, _, digest in step.key_document.files]
    fingerprint = Fingerprint(compilers, tuple(flags), step.arches, "", version, settings)
    return Toolchain(version, fingerprint, tuple(missing))
