"""Variables in Dockerfiles, character by character as BuildKit's shell/lex.go replaces them.

The same lexer splits a line into the words among which heredocs are looked for, with quotes and escapes left in.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field

__all__ = ["BLANKS", "LexError", "Scope", "Unresolved", "expand", "lex_words"]

# Go's unicode.IsSpace: what BuildKit trims and splits words at. Python's str.strip takes more.
BLANKS = "\t\n\v\f\r \x85\xa0\u1680\u2028\u2029\u202f\u205f\u3000" + "".join(map(chr, range(0x2000, 0x200B)))
_SPECIAL = "@*#?-$!0"  # one-character names, as in a shell


class Unresolved(Exception):  # noqa: N818  a state of knowledge, turned into a Problem by the caller
    """A variable has no value that is known here; the text is its name. `line` is where, 0 while nobody has said it."""

    line = 0


class LexError(Exception):
    """BuildKit refuses the text, or its versions differ in what it means: what is wrong, and a hint what to do.

    `line` is where, 0 while nobody has said it.
    """

    line = 0

    def __init__(self, what: str, hint: str = "") -> None:
        super().__init__(what)
        self.hint = hint


@dataclass(frozen=True, slots=True)
class Scope:
    """The variables that hold where an instruction stands.

    `values` are those that are known to be set; None: set, but to what is not known. `blank` are declared without a
    value: BuildKit takes them for empty, we only where a modifier asks whether they are set. In an `open` scope other
    names may be set too, by an image that is not read.
    """

    values: dict[str, str | None] = field(default_factory=dict)
    blank: frozenset[str] = frozenset()
    open: bool = False

    def find(self, name: str) -> str | None:
        """Return the value, None for a variable that is surely not set. Raises Unresolved when nobody can tell."""
        if name in self.blank:
            return ""
        value = self.values.get(name)
        if value is None and (self.open or name in self.values):
            raise Unresolved(name)
        return value

    def value(self, name: str) -> str:
        """Return the value of a variable that must have one. Raises Unresolved."""
        value = None if name in self.blank else self.find(name)
        if value is None:
            raise Unresolved(name)
        return value


def expand(word: str, scope: Scope, escape: str = "\\") -> str:
    """Return `word` with its variables replaced, quotes and escapes removed. Raises Unresolved or LexError."""
    return _Lexer(word, escape, scope).run()


def lex_words(line: str, *, raw: bool, spaced_heredocs: bool = False) -> list[str]:
    """Return the words of a line as a shell would split them, with no variable set and `$x` left as it is.

    `raw` leaves quotes and escapes in. With `spaced_heredocs`, as in newer versions, blanks after `<<` do not end a
    word. Raises LexError for quotes or braces that do not end.
    """
    lexer = _Lexer(line, "\\", None, raw_quotes=raw, raw_escapes=raw, spaced_heredocs=spaced_heredocs)
    lexer.run()
    return lexer.words


class _Lexer:
    """One walk over a word. `scope` None: variables stay as they are written."""

    def __init__(
        self,
        text: str,
        escape: str,
        scope: Scope | None,
        *,
        raw_quotes: bool = False,
        raw_escapes: bool = False,
        spaced_heredocs: bool = False,
    ) -> None:
        self.text, self.at = text, 0
        self.escape, self.scope = escape, scope
        self.raw_quotes, self.raw_escapes, self.spaced_heredocs = raw_quotes, raw_escapes, spaced_heredocs
        self.words: list[str] = []

    def run(self) -> str:
        text, self.words = self._until("")
        return text

    def _peek(self) -> str:
        return self.text[self.at] if self.at < len(self.text) else ""

    def _next(self) -> str:
        char = self._peek()
        self.at += 1
        return char

    def _until(self, stop: str, *, raw_escapes: bool | None = None) -> tuple[str, list[str]]:
        """Process up to the unquoted `stop` character ('' = the end); return the result and the words in it."""
        before = self.raw_escapes
        self.raw_escapes = before if raw_escapes is None else raw_escapes
        try:
            return self._process(stop)
        finally:
            self.raw_escapes = before

    def _process(self, stop: str) -> tuple[str, list[str]]:
        out, words = "", _Words()
        special: dict[str, Callable[[], str]] = {"$": self._dollar, "'": self._single, '"': self._double}
        while char := self._peek():
            if char == stop:
                self.at += 1
                return out, words.done()
            if char == "<" and self.spaced_heredocs:
                text = self._possible_heredoc()
                out += text
                words.raw(text)
            elif char in special:
                text = special[char]()
                out += text
                (words.split if char == "$" else words.raw)(text)
            elif char == self.escape:
                self.at += 1
                if self.raw_escapes:
                    words.raw(char)
                    out += char
                escaped = self._next()
                if not escaped:
                    break
                words.raw(escaped)
                out += escaped
            else:
                self.at += 1
                words.split(char)
                out += char
        if stop:
            raise LexError(f"a '{stop}' is missing")
        return out, words.done()

    def _possible_heredoc(self) -> str:
        self.at += 1
        if self._peek() != "<":
            return "<"
        self.at += 1
        blanks = ""
        while self._peek() and self._peek() in "\t\r ":
            blanks += self._next()
        return "<<" + blanks

    def _single(self) -> str:
        end = self.text.find("'", self.at + 1)
        if end < 0:
            raise LexError("a single quote does not end")
        inner, self.at = self.text[self.at + 1 : end], end + 1
        return f"'{inner}'" if self.raw_quotes else inner

    def _double(self) -> str:
        self.at += 1
        out = '"' if self.raw_quotes else ""
        while char := self._peek():
            if char == '"':
                self.at += 1
                return out + ('"' if self.raw_quotes else "")
            if char == "$":
                out += self._dollar()
                continue
            self.at += 1
            if char == self.escape:
                if self.raw_escapes:
                    out += char
                if not self._peek():
                    continue
                if self._peek() in ('"', "$", self.escape):
                    char = self._next()
            out += char
        raise LexError("a double quote does not end")

    def _dollar(self) -> str:
        self.at += 1
        if self._peek() != "{":
            name = self._name()
            return self._plain(name, f"${name}") if name else "$"
        self.at += 1
        if not self._peek():
            raise LexError("a '}' is missing")
        if self._peek() in "{}:":
            raise LexError("bad substitution")
        name, modifier = self._name(), self._next()
        if modifier == "}":
            return self._plain(name, f"${{{name}}}")
        if modifier == "/":
            return self._replaced(name)
        if modifier == ":":
            modifier += self._next()
        if modifier[-1:] not in {"+", "-", "?", "#", "%"} or modifier in {":#", ":%"}:
            raise LexError(f"the modifier '{modifier}' in ${{{name}…}} is not one that every BuildKit version knows")
        word, _ = self._until("}", raw_escapes=modifier[-1] in "#%")
        return self._modified(name, modifier, word)

    def _plain(self, name: str, written: str) -> str:
        return written if self.scope is None else self.scope.value(name)

    def _modified(self, name: str, modifier: str, word: str) -> str:
        if self.scope is None:
            return f"${{{name}{modifier}{word}}}"
        kind = modifier[-1]
        value = self.scope.find(name)
        is_set = value is not None and (value != "" or not modifier.startswith(":"))
        if kind == "+":
            return word if is_set else ""
        if kind == "-":
            return value if is_set and value is not None else word
        if kind == "?":
            if not is_set or value is None:
                raise Unresolved(name)
            return value
        greedy = word.startswith(kind)
        pattern = word[1:] if greedy else word
        if not pattern:
            raise LexError(f"the pattern in ${{{name}{modifier}{word}}} is empty")
        if kind == "#":
            return _without_prefix(pattern, value or "", greedy=greedy)
        return _without_prefix(_reversed(pattern), (value or "")[::-1], greedy=greedy)[::-1]

    def _replaced(self, name: str) -> str:
        everywhere = self._peek() == "/"
        if everywhere:
            self.at += 1
        pattern, _ = self._until("/", raw_escapes=True)
        replacement, _ = self._until("}", raw_escapes=True)
        if self.scope is None:
            return f"${{{name}/{pattern}/{replacement}}}"
        if "$" in replacement:
            raise LexError("a '$' in the replacement means something else to each BuildKit version")
        value = self.scope.find(name) or ""
        return _regex(pattern, greedy=True).sub(lambda _: replacement, value, count=0 if everywhere else 1)

    def _name(self) -> str:
        if self._peek().isdecimal():
            begin = self.at
            while self._peek().isdecimal():
                self.at += 1
            return self.text[begin : self.at]
        if self._peek() and self._peek() in _SPECIAL:
            return self._next()
        begin = self.at
        while self._peek().isalpha() or self._peek().isdecimal() or self._peek() == "_":
            self.at += 1
        return self.text[begin : self.at]


class _Words:
    """Collects words while a line is walked over: blanks split unless they were quoted or escaped."""

    def __init__(self) -> None:
        self.found: list[str] = []
        self.word, self.inside = "", False

    def split(self, text: str) -> None:
        for char in text:
            if char not in BLANKS:
                self.raw(char)
            elif self.inside and self.word:
                self.found.append(self.word)
                self.word, self.inside = "", False

    def raw(self, text: str) -> None:
        self.word += text
        self.inside = True

    def done(self) -> list[str]:
        if self.word:
            self.found.append(self.word)
            self.word, self.inside = "", False
        return self.found


def _regex(pattern: str, *, greedy: bool) -> re.Pattern[str]:
    """Translate a shell pattern (`*` and `?`; no brackets). Raises LexError for an escape of anything else."""
    out, at = "", 0
    while at < len(pattern):
        char = pattern[at]
        at += 1
        if char == "*":
            out += ".*" if greedy else ".*?"
        elif char == "?":
            out += "."
        elif char == "\\":
            escaped = pattern[at : at + 1]
            if escaped and escaped in "}/":
                continue
            if not escaped or escaped not in "*?\\":
                raise LexError(f"'\\{escaped}' cannot be escaped in a pattern")
            out += re.escape(escaped)
            at += 1
        else:
            out += re.escape(char)
    return re.compile(out)


def _without_prefix(pattern: str, value: str, *, greedy: bool) -> str:
    match = _regex(pattern, greedy=greedy).match(value)
    return value[match.end() :] if match else value


def _reversed(pattern: str) -> str:
    r"""Reverse a pattern, but no escape: `a\*c` becomes `c\*a`."""
    parts, at = [], 0
    while at < len(pattern):
        width = 2 if pattern[at] == "\\" and at + 1 < len(pattern) else 1
        parts.append(pattern[at : at + width])
        at += width
    return "".join(reversed(parts))
