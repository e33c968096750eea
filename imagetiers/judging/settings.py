"""Whether an image's configuration is what was declared: user, entry point, variables, labels, ports. Pure."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterator, Sequence

from imagetiers.config.checks import Checks, Declared
from imagetiers.judging.accounts import accounts, file_text
from imagetiers.judging.outcome import CheckOutcome, by_name, compare, nearest
from imagetiers.layers.image_config import ImageConfig
from imagetiers.layers.tree import FileTree

__all__ = ["NON_ROOT", "judge_settings", "needs_accounts"]

NON_ROOT = "non-root"

_WORDS: tuple[tuple[str, Callable[[Checks], tuple[str, ...] | None], Callable[[ImageConfig], tuple[str, ...]]], ...] = (
    ("entrypoint", lambda checks: checks.entrypoint, lambda config: config.entrypoint),
    ("cmd", lambda checks: checks.cmd, lambda config: config.cmd),
    ("healthcheck", lambda checks: checks.healthcheck, lambda config: config.healthcheck or ()),
)


def needs_accounts(declared: Sequence[Declared], config: ImageConfig) -> bool:
    """Say whether only the image's files know if its user is root."""
    user = nearest(declared, lambda checks: checks.user)
    name = config.user.partition(":")[0]
    return user is not None and user[1] == NON_ROOT and name not in {"", "root"} and not name.isdigit()


def judge_settings(declared: Sequence[Declared], config: ImageConfig, tree: FileTree | None) -> Iterator[CheckOutcome]:
    """Yield what came out of each check. `tree` is needed where `needs_accounts` says so."""
    user = nearest(declared, lambda checks: checks.user)
    if user is not None:
        yield _user(*user, config.user, tree)
    for name, wanted_of, found_of in _WORDS:
        words = nearest(declared, wanted_of)
        if words is not None:
            yield compare(words[0], name, shlex.join(found_of(config)) or "none", shlex.join(words[1]) or "none", _MINE)
    workdir = nearest(declared, lambda checks: checks.workdir)
    if workdir is not None:
        yield compare(workdir[0], "workdir", config.workdir, workdir[1], _MINE)
    ports = nearest(declared, lambda checks: checks.ports)
    if ports is not None:
        yield compare(ports[0], "ports", " ".join(config.ports) or "none", " ".join(sorted(ports[1])) or "none", _MINE)
    for name, (tier, wanted) in by_name(declared, lambda checks: checks.env).items():
        yield compare(tier, f"env {name}", config.env.get(name, ""), wanted, _MINE)
    for name, (tier, wanted) in by_name(declared, lambda checks: checks.labels).items():
        yield compare(tier, f"label {name}", config.labels.get(name, ""), wanted, _MINE)


_MINE = "a tier whose image is otherwise on purpose says so under its own verify:"


def _user(tier: str, wanted: str, found: str, tree: FileTree | None) -> CheckOutcome:
    if wanted != NON_ROOT:
        return compare(tier, "user", found, wanted, _MINE)
    name = found.partition(":")[0]
    hint = "USER with a number, or a user of the image's /etc/passwd, in the Dockerfile"
    if name.isdigit():
        root = int(name) == 0
    elif not name or name == "root":
        root = True
    else:
        known = accounts(file_text(tree, "/etc/passwd")) if tree is not None else {}
        if name not in known:
            return CheckOutcome(tier, "user", f"user is {name}, whom the image's /etc/passwd does not know", hint)
        root = known[name] == 0
    return CheckOutcome(tier, "user", f"user is {found or 'not set'}: programs run as root" if root else "", hint)
