"""Git repositories elsewhere: which commit a tag or branch is, through `git ls-remote`. Nothing is cloned."""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Iterable, Mapping

from imagetiers.adapters.process import run
from imagetiers.planning.observed import Absent, Unknown
from imagetiers.services import Cancellation

__all__ = ["GitRemotes"]

# Nobody is there to be asked: not on a terminal, not in a window, and no SSH host is trusted for the first time.
_ENV = {
    "GIT_TERMINAL_PROMPT": "0",
    "GIT_ASKPASS": "",
    "SSH_ASKPASS_REQUIRE": "never",
    "GCM_INTERACTIVE": "never",
    "LC_ALL": "C",
}
# Of git's transports, those that run no command of the URL's choice.
_ALLOWED = ("https", "http", "ssh", "git", "file")
_SETTINGS = ("protocol.allow=never", *(f"protocol.{name}.allow=always" for name in _ALLOWED))
_LINE = re.compile(r"([0-9a-f]{40}|[0-9a-f]{64})\t(\S+)")
_SECONDS = 60.0
_TOLD, _WIDEST = 4, 200  # of what git says when it fails: lines, and characters of each


class GitRemotes:
    """The real Git. Every question has `seconds`."""

    def __init__(self, cancel: Cancellation, seconds: float = _SECONDS) -> None:
        self._cancel = cancel
        self._seconds = seconds

    def look_up(self, url: str, refs: Iterable[str]) -> Mapping[str, str | Absent | Unknown]:
        """Return the commits of a repository's tags and branches (a tag first, as git does), in one request."""
        asked = tuple(refs)
        patterns = {ref: _names(ref) for ref in asked}
        wanted = {name for names in patterns.values() for name in names}
        found: dict[str, str] = {}
        told: deque[str] = deque(maxlen=_TOLD)

        def take(line: str) -> None:
            match = _LINE.fullmatch(line)
            if match is None:
                told.append(line[:_WIDEST])
            elif match[2] in wanted:
                found[match[2]] = match[1]

        plain = all(name.startswith(("refs/heads/", "refs/tags/")) for name in wanted)
        only = ("--heads", "--tags") if plain else ()  # else the server sends the refs of all pull requests, too
        settings = [word for setting in _SETTINGS for word in ("-c", setting)]
        argv = ("git", *settings, "ls-remote", *only, "--", url, *sorted(wanted))
        try:
            code = run(argv, env=_ENV, on_line=take, cancel=self._cancel, seconds=self._seconds)
        except FileNotFoundError:
            return dict.fromkeys(asked, Unknown("the git command is not on the PATH"))
        except TimeoutError:
            return dict.fromkeys(asked, Unknown(f"{url} does not answer within {self._seconds:.0f} s"))
        if code != 0:
            said = " ".join(line.strip() for line in told if line.strip()) or f"exit code {code}"
            return dict.fromkeys(asked, Unknown(f"git ls-remote: {said}"))
        return {
            ref: next((found[name] for name in names if name in found), Absent()) for ref, names in patterns.items()
        }


def _names(ref: str) -> tuple[str, ...]:
    """Return what a ref may be, best first. `^{}` is what an annotated tag points to in the end."""
    if ref == "HEAD":
        return (ref,)
    if ref.startswith("refs/"):
        return (f"{ref}^{{}}", ref)
    return (f"refs/tags/{ref}^{{}}", f"refs/tags/{ref}", f"refs/heads/{ref}")
