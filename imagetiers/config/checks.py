"""The checks that pipeline.yaml declares of an image under `verify:`, as values. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

__all__ = [
    "FORBIDDEN_KINDS",
    "Checks",
    "CommandCheck",
    "Declared",
    "FileCheck",
    "Forbidden",
    "PythonCheck",
    "read_checks",
]

FORBIDDEN_KINDS = ("compilers", "caches", "git", "credentials", "setuid", "world_writable")


def _none() -> Mapping[str, str]:
    return MappingProxyType({})


@dataclass(frozen=True, slots=True)
class CommandCheck:
    """A command that is run in the image, without a shell: how it must end, what it must print, and the form of that."""

    run: tuple[str, ...]
    exit_code: int = 0
    output: tuple[str, ...] = ()
    matches: str | None = None


@dataclass(frozen=True, slots=True)
class PythonCheck:
    """What the image's Python must have: modules that import, by the beginning of their version; distributions by theirs.

    `pip_check`: what the distributions require is installed, and in versions that fit.
    """

    imports: Mapping[str, str] = field(default_factory=_none)
    versions: Mapping[str, str] = field(default_factory=_none)
    pip_check: bool = False

    def __bool__(self) -> bool:
        return bool(self.imports or self.versions or self.pip_check)


@dataclass(frozen=True, slots=True)
class FileCheck:
    """What a path must be. None: whatever it is. `mode` are twelve bits; `owner` a name or a number, `group` too."""

    present: bool = True
    kind: str | None = None
    mode: int | None = None
    owner: str | None = None
    group: str | None = None
    contains: tuple[str, ...] = ()
    sha256: str | None = None
    target: str | None = None

    @property
    def reads(self) -> bool:
        """Whether the file's content is looked at."""
        return bool(self.contains or self.sha256)


@dataclass(frozen=True, slots=True)
class Forbidden:
    """What must not be in the image: programs on its PATH, packages, paths, and whole `kinds`, of `FORBIDDEN_KINDS`.

    `allow` are patterns of paths that may be there all the same.
    """

    programs: tuple[str, ...] = ()
    packages: tuple[str, ...] = ()
    paths: tuple[str, ...] = ()
    kinds: frozenset[str] = frozenset()
    allow: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.programs or self.packages or self.paths or self.kinds)


@dataclass(frozen=True, slots=True)
class Checks:
    """The checks of one tier, without those of its parents. None, or empty: nothing is asked.

    `libraries` are patterns of names that need not be found, None: nobody looks for libraries.
    """

    programs: tuple[str, ...] = ()
    commands: tuple[CommandCheck, ...] = ()
    python: PythonCheck = field(default_factory=PythonCheck)
    files: Mapping[str, FileCheck] = field(default_factory=lambda: MappingProxyType({}))
    user: str | None = None
    entrypoint: tuple[str, ...] | None = None
    cmd: tuple[str, ...] | None = None
    workdir: str | None = None
    env: Mapping[str, str] = field(default_factory=_none)
    labels: Mapping[str, str] = field(default_factory=_none)
    ports: tuple[str, ...] | None = None
    healthcheck: tuple[str, ...] | None = None
    libraries: tuple[str, ...] | None = None
    forbid: Forbidden = field(default_factory=Forbidden)

    @property
    def reads_files(self) -> bool:
        """Whether the image's files must be read for them, whatever its configuration says."""
        return bool(self.programs or self.files or self.forbid or self.libraries is not None)

    @property
    def reads_config(self) -> bool:
        """Whether the image's configuration must be read for them."""
        whole = (self.user, self.entrypoint, self.cmd, self.workdir, self.ports, self.healthcheck)
        return bool(self.env or self.labels) or any(each is not None for each in whole)


def read_checks(given: Mapping[str, Any]) -> Checks:
    """Read what the schema has let pass."""
    commands = given.get("commands", [])
    python = given.get("python", {})
    health = given.get("healthcheck")
    libraries = given.get("libraries")
    forbid = given.get("forbid", {})
    return Checks(
        programs=tuple(each for each in commands if isinstance(each, str)),
        commands=tuple(_command(each) for each in commands if isinstance(each, dict)),
        python=PythonCheck(
            MappingProxyType(python.get("imports", {})),
            MappingProxyType(python.get("versions", {})),
            bool(python.get("pip_check", False)),
        ),
        files=MappingProxyType({path: _file(each) for path, each in given.get("files", {}).items()}),
        user=given.get("user"),
        entrypoint=_words(given.get("entrypoint")),
        cmd=_words(given.get("cmd")),
        workdir=given.get("workdir"),
        env=MappingProxyType(given.get("env", {})),
        labels=MappingProxyType(given.get("labels", {})),
        ports=_words(given.get("ports")),
        healthcheck=() if health == "none" else _words(health),
        libraries=tuple(libraries.get("ignore", ())) if libraries is not None else None,
        forbid=Forbidden(
            tuple(forbid.get("programs", ())),
            tuple(forbid.get("packages", ())),
            tuple(forbid.get("paths", ())),
            frozenset(kind for kind in FORBIDDEN_KINDS if forbid.get(kind)),
            tuple(forbid.get("allow", ())),
        ),
    )


def _words(given: list[str] | None) -> tuple[str, ...] | None:
    return None if given is None else tuple(given)


def _texts(given: str | list[str] | None) -> tuple[str, ...]:
    return (given,) if isinstance(given, str) else tuple(given or ())


def _command(given: Mapping[str, Any]) -> CommandCheck:
    return CommandCheck(
        tuple(given["run"]), int(given.get("exit_code", 0)), _texts(given.get("output")), given.get("matches")
    )


def _file(given: str | Mapping[str, Any]) -> FileCheck:
    if isinstance(given, str):
        return FileCheck(present=given == "present")
    mode = given.get("mode")
    return FileCheck(
        kind=given.get("kind"),
        mode=int(mode, 8) if mode is not None else None,
        owner=given.get("owner"),
        group=given.get("group"),
        contains=_texts(given.get("contains")),
        sha256=given.get("sha256"),
        target=given.get("target"),
    )


@dataclass(frozen=True, slots=True)
class Declared:
    """What a tier declares; `text` is the same as it was written, in one form, for the name of the verdict."""

    tier: str
    checks: Checks
    text: str
