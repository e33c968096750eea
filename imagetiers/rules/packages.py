"""Rules about what package managers leave behind."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from imagetiers.rules.rule import Rule, Severity, Spot
from imagetiers.rules.shell import Command
from imagetiers.rules.subject import StageStep, Subject, lies_in

__all__ = ["RULES", "installs_packages"]

_FALSE = frozenset({"", "0", "off", "no", "false", "n", "f"})
_LISTS = "/var/lib/apt/lists"
_APT = frozenset({"apt-get", "apt"})
_INSTALL = frozenset({"install", "add", "ci"})
_MANAGERS = frozenset({"apt-get", "apt", "apk", "dnf", "microdnf", "yum", "zypper", "npm", "yarn", "conda", "mamba"})
_TOOLS = frozenset(
    {
        "build-essential",
        "gcc",
        "g++",
        "clang",
        "cmake",
        "make",
        "ninja-build",
        "nvidia-cuda-toolkit",
        "gfortran",
        "cargo",
    }
)
_TOOL_FAMILIES = ("gcc-", "g++-", "clang-", "cuda-nvcc-", "cuda-toolkit-", "cuda-compiler-", "gfortran-")
_FETCHERS = frozenset({"curl", "wget"})
_SHELLS = frozenset({"sh", "bash", "dash", "ash", "python", "python3", "perl"})
_CHECKERS = frozenset({"sha256sum", "sha512sum", "sha384sum", "shasum", "gpg", "gpgv", "cosign", "b2sum", "minisign"})


def pip_words(command: Command) -> tuple[str, ...] | None:
    """Return what stands behind `pip install`, however pip is called; None for another command."""
    words = command.words
    if command.program.startswith("python") and words[1:3] == ("-m", "pip"):
        words = words[2:]
    elif command.program == "uv" and words[1:2] == ("pip",):
        words = words[1:]
    elif command.program != "pip" and not (
        command.program.startswith("pip") and command.program[3:].replace(".", "").isdecimal()
    ):
        return None
    rest = [word for word in words[1:] if word in {"install", "download", "wheel"}]
    return words[words.index(rest[0]) + 1 :] if rest else None


def installs_packages(command: Command) -> bool:
    """Say whether a command fetches packages of a distribution or a language's index."""
    words = pip_words(command)
    if words is not None:
        return "--no-index" not in words
    return command.program in _MANAGERS and bool(_INSTALL & set(command.words[1:]))


def _set(values: Mapping[str, str | None], name: str) -> bool:
    value = values.get(name)
    return value is not None and value.lower() not in _FALSE


def _pip_folder(command: Command, step: StageStep) -> str | None:
    """Return the folder in which pip, or uv, keeps what it has fetched, None where nobody says it."""
    name = "UV_CACHE_DIR" if command.program == "uv" else "PIP_CACHE_DIR"
    return command.variables.get(name) or step.values.get(name)


def _keeps_no_cache(command: Command, step: StageStep) -> bool:
    if command.program == "uv":
        return command.has("--no-cache", "-n") or _set({**step.values, **command.variables}, "UV_NO_CACHE")
    return command.has("--no-cache-dir") or _set({**step.values, **command.variables}, "PIP_NO_CACHE_DIR")


def _has_mount(command: Command, step: StageStep) -> bool:
    folder = _pip_folder(command, step)
    if folder is not None:
        return step.covers(folder)
    return any(mount.endswith((".cache", ".cache/pip", ".cache/uv")) for mount in step.covered)


def _removes(step: StageStep, path: str) -> bool:
    """Say whether a step removes what lies at a path."""
    removed = [
        step.path(word)
        for command in step.commands
        if command.program == "rm"
        for word in command.words[1:]
        if not word.startswith("-")
    ]
    return any(lies_in(each, path) or lies_in(path, each) for each in removed)


def _package_cache(subject: Subject) -> Iterator[Spot]:
    for step in subject.steps(*subject.shipped):
        for command in step.commands:
            words = pip_words(command)
            if words is None or "--no-index" in words or _keeps_no_cache(command, step) or _has_mount(command, step):
                continue
            if any("cache" in command.words[1:] and "purge" in command.words for command in step.commands):
                continue
            folder = _pip_folder(command, step) or (
                "/root/.cache/uv" if command.program == "uv" else "/root/.cache/pip"
            )
            if not _removes(step, folder):
                yield step.line, f"{command.program} keeps everything that it fetches in {folder}, in this layer"
                break


def _cache_defeated(subject: Subject) -> Iterator[Spot]:
    for step in subject.steps(*subject.stages):
        for command in step.commands:
            if pip_words(command) is not None and _keeps_no_cache(command, step) and _has_mount(command, step):
                yield step.line, f"{command.program} is given a cache mount, and told to use no cache"
                break


def _apt_lists(subject: Subject) -> Iterator[Spot]:
    for step in subject.steps(*subject.shipped):
        updates = any(command.program in _APT and "update" in command.words[1:] for command in step.commands)
        if not updates or step.covers(_LISTS) or _removes(step, _LISTS):
            continue
        later = next(
            (
                other.line
                for other in subject.steps(*subject.shipped)
                if other.line > step.line and _removes(other, _LISTS)
            ),
            None,
        )
        tail = "" if later is None else f"; line {later} removes it from a later layer, which saves nothing"
        yield step.line, f"the package lists stay in {_LISTS}, in this layer{tail}"


def _is_tool(word: str) -> bool:
    name = word.partition("=")[0].partition(":")[0]
    return name in _TOOLS or (name.startswith(_TOOL_FAMILIES) and not name.endswith("-base"))


def _build_tools(subject: Subject) -> Iterator[Spot]:
    for step in subject.steps(*subject.shipped):
        gone = any(
            command.program in _APT | {"apk"} and {"purge", "remove", "autoremove", "del"} & set(command.words[1:])
            for command in step.commands
        )
        tools = [
            word
            for command in step.commands
            if command.program in _MANAGERS and _INSTALL & set(command.words[1:])
            for word in command.words[1:]
            if _is_tool(word)
        ]
        if tools and not gone:
            yield step.line, f"installs {', '.join(dict.fromkeys(tools))} into the image itself"


def _unchecked_download(subject: Subject) -> Iterator[Spot]:
    for step in subject.steps(*subject.stages):
        checked = any(command.program in _CHECKERS for command in step.commands)
        for command in step.commands:
            url = next((word for word in command.words[1:] if word.startswith(("http://", "https://", "ftp://"))), None)
            if command.program not in _FETCHERS or url is None:
                continue
            if command.piped_to in _SHELLS:
                yield step.line, f"{command.piped_to} runs whatever {url} holds on that day"
                break
            if not checked:
                yield step.line, f"{command.program} fetches {url}, and nothing checks what comes"
                break


RULES = (
    Rule(
        id="package-cache",
        severity=Severity.WARNING,
        title="pip's cache in a layer",
        why="every wheel is in the image twice: installed, and as the file that came",
        fix="pip install --no-cache-dir, or RUN --mount=type=cache,target=/root/.cache/pip",
        look=_package_cache,
    ),
    Rule(
        id="cache-defeated",
        severity=Severity.WARNING,
        title="a cache mount that is not used",
        why="each build fetches everything again, although the mount is there to prevent that",
        fix="remove --no-cache-dir (or PIP_NO_CACHE_DIR), or the mount",
        look=_cache_defeated,
    ),
    Rule(
        id="apt-lists",
        severity=Severity.WARNING,
        title="apt's package lists in a layer",
        why="20 to 50 MB that are out of date the next day",
        fix="end the same RUN with && rm -rf /var/lib/apt/lists/*, or mount a cache over /var/lib/apt",
        look=_apt_lists,
    ),
    Rule(
        id="build-tools",
        severity=Severity.WARNING,
        title="compilers in the image",
        why="hundreds of megabytes that nobody runs, and everything that an attacker wants to find there",
        fix="compile in a stage of its own, and COPY --from= or bind-mount what it made",
        look=_build_tools,
    ),
    Rule(
        id="unchecked-download",
        severity=Severity.WARNING,
        title="a download that nothing checks",
        why="what lies there can change without a new key, and whoever controls the server decides what is in your image",
        fix="ADD --checksum=sha256:… URL, or sha256sum -c in the same RUN",
        look=_unchecked_download,
    ),
)
