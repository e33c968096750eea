"""What a compile step compiles with: asked of its builder image, because only the image knows."""

from __future__ import annotations

import secrets
from dataclasses import dataclass

from imagetiers.ccache.format.fingerprint import Compiler, Fingerprint
from imagetiers.config.gpus import ARCH_LIST_ARG
from imagetiers.planning.containers import Container
from imagetiers.planning.plan import CompilePlan
from imagetiers.services import Services

__all__ = ["Toolchain", "probe"]

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
_HOST_SETTINGS = ("cache_dir", "max_size", "stats_log", "temporary_dir")  # ours, or without effect on what hits


@dataclass(frozen=True, slots=True)
class Toolchain:
    """`ccache` is its version, empty where the image has none."""

    ccache: str
    fingerprint: Fingerprint


def probe(step: CompilePlan, services: Services) -> Toolchain:
    """Ask the builder image for its compilers and its ccache. Raises EngineError."""
    container = Container(
        name=f"imagetiers-probe-{step.key[:12]}-{secrets.token_hex(4)}",
        image=step.builder,
        argv=("/bin/sh", "-c", _ASK),
        user=f"{services.user[0]}:{services.user[1]}",
        env={"HOME": "/tmp", "CCACHE_DIR": "/tmp/ccache"},  # noqa: S108  in the container
    )
    lines: list[str] = []
    started = services.engine.start(container)
    try:
        services.engine.follow(started, lines.append)
    finally:
        services.engine.remove(started)
    return _read(step, lines)


def _read(step: CompilePlan, lines: list[str]) -> Toolchain:
    version = ""
    settings: dict[str, str] = {}
    compilers: dict[str, Compiler] = {}
    for line in lines:
        kind, *fields = line.split("\t")
        if kind == "ccache" and fields:
            version = fields[0].strip()
        elif kind == "setting" and fields and " = " in fields[0]:
            name, _, value = fields[0].partition(") ")[2].partition(" = ")
            if name not in _HOST_SETTINGS:
                settings[name] = value
        elif kind == "compiler" and len(fields) == 3:  # noqa: PLR2004  name, hash, version
            compilers[fields[0]] = Compiler(fields[2], fields[1])
    args = step.key_document.args
    flags = [f"{name}={value}" for name, value in sorted(args.items()) if name != ARCH_LIST_ARG]
    flags += [f"{path} ({digest[:12]})" for path, _, digest in step.key_document.files]
    arches = tuple(args[ARCH_LIST_ARG].split(";")) if ARCH_LIST_ARG in args else ()
    return Toolchain(version, Fingerprint(compilers, tuple(flags), arches, "", version, settings))
