"""Parser directives: `# escape=` and `# syntax=` at the very top of a Dockerfile.

Source: moby/buildkit, frontend/dockerfile/parser/directives.go.
"""

from __future__ import annotations

import re
from collections.abc import Callable

__all__ = ["Directives"]

_DIRECTIVE = re.compile(r"#[\t\n\f\r ]*([a-zA-Z][a-zA-Z0-9]*)[\t\n\f\r ]*=[\t\n\f\r ]*(.+?)[\t\n\f\r ]*")
_KNOWN = frozenset({"syntax", "escape", "check"})
_SHEBANG_SYNTAX = re.compile(r"#![^\n]*\n#[ \t]*syntax[ \t]*=", re.IGNORECASE)

Report = Callable[[int, str, str], None]


class Directives:
    """Reads directives until the first line that is none. `syntax` is the outside frontend that the file asks for."""

    def __init__(self) -> None:
        self.escape = "\\"
        self.syntax: str | None = None
        self._open = True
        self._seen: set[str] = set()

    def take(self, line: str, number: int, report: Report) -> None:
        """Look at a line, leading blanks gone."""
        if not self._open:
            return
        match = _DIRECTIVE.fullmatch(line)
        name = match[1].lower() if match else ""
        if match is None or name not in _KNOWN:
            self._open = False
            return
        if name in self._seen:
            report(number, f"a second directive '# {name}='", "remove one")
        elif "check" in self._seen:
            hint = "put '# check=' last: before version 1.8 it ends the directives"
            report(number, f"'# {name}=' stands behind '# check='", hint)
        self._seen.add(name)
        if name == "escape":
            if match[2] in {"\\", "`"}:
                self.escape = match[2]
            else:
                report(number, f"'{match[2]}' cannot be the escape character", "# escape=` or # escape=\\")
        elif name == "syntax":
            self.syntax = match[2].partition(" ")[0]

    def check_end(self, text: str, report: Report) -> None:
        """Report a `# syntax=` that the frontend's loader finds and the parser does not."""
        if _SHEBANG_SYNTAX.match(text):
            report(2, "'# syntax=' stands behind a line '#!'", "make it the first line")
