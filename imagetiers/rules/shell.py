"""The text of a RUN as commands. It is read by tree-sitter's grammar of bash, and never by patterns over the text."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import PurePosixPath

import tree_sitter_bash
from tree_sitter import Language, Node, Parser

__all__ = ["Command", "ShellError", "command_of", "read_script"]

_PARSER = Parser(Language(tree_sitter_bash.language()))
_SHELLS = frozenset({"sh", "bash", "dash", "ash"})
_BEFORE = frozenset({"command", "env", "exec", "nice", "nohup", "sudo", "time"})  # programs that run another one
_PIPED = "xargs"
_WRITING = frozenset({">", ">>", ">|", "&>", "&>>"})
_DEEPEST = 200  # nodes above a node; a script of people has a dozen
_NESTED = 3  # `sh -c` within `sh -c`


class ShellError(Exception):
    """A text is no script of a POSIX shell or bash, as far as the grammar knows."""


@dataclass(frozen=True, slots=True)
class Command:
    """A simple command: its words, the variables that are set for it alone, and the program that reads what it writes.

    Quotes are gone from the words; a variable whose value is not known stays as `${NAME}`, anything else that the shell
    would put there as `$(…)`. A redirection is a command without words, and `writes` the file that it fills.
    """

    words: tuple[str, ...]
    variables: Mapping[str, str] = field(default_factory=dict)
    piped_to: str = ""
    writes: str = ""

    @property
    def program(self) -> str:
        """The name of the program, without its folder."""
        return PurePosixPath(self.words[0]).name if self.words else ""

    def has(self, *options: str) -> bool:
        """Say whether one of these options stands among the words, also as `--name=value`."""
        return any(word == option or word.startswith(f"{option}=") for word in self.words for option in options)


def command_of(words: tuple[str, ...]) -> tuple[Command, ...]:
    """Return the commands of an exec form, in which a shell may stand itself. Raises ShellError."""
    return tuple(_unwrapped(Command(words), {}, 0))


def read_script(text: str, values: Mapping[str, str | None]) -> tuple[Command, ...]:
    """Return the commands of a script in the order of their text, whether or not a condition leaves them out.

    `values` are the variables that are known. Raises ShellError.
    """
    return tuple(_commands(text, values, 0))


def _commands(text: str, values: Mapping[str, str | None], depth: int) -> Iterator[Command]:
    root = _PARSER.parse(text.encode()).root_node
    if root.has_error:
        broken = _broken(root)
        raise ShellError(f"cannot be read from '{broken}' on" if broken else "is not a whole script")
    for node in _nodes(root):
        if node.type == "command":
            yield from _unwrapped(_command(node, values), values, depth)
        elif node.type == "file_redirect" and any(part.type in _WRITING for part in node.children):
            target = node.child_by_field_name("destination")
            if target is not None:
                yield Command((), writes=_word(target, values))


def _broken(root: Node) -> str:
    """Return the beginning of what the grammar could not read."""
    node = next((node for node in _nodes(root) if node.is_error or node.is_missing), root)
    return _text(node).strip().partition("\n")[0][:40]


def _nodes(root: Node) -> Iterator[Node]:
    """Yield all nodes in the order of the text. Raises ShellError for a text of many levels."""
    todo = [(root, 0)]
    while todo:
        node, depth = todo.pop()
        if depth > _DEEPEST:
            raise ShellError(f"has more than {_DEEPEST} levels")
        yield node
        todo += [(child, depth + 1) for child in reversed(node.children)]


def _text(node: Node) -> str:
    return (node.text or b"").decode(errors="replace")


def _command(node: Node, values: Mapping[str, str | None]) -> Command:
    words: list[str] = []
    variables: dict[str, str] = {}
    for child in node.children:
        if child.type == "variable_assignment":
            name, _, _ = _text(child).partition("=")
            value = child.child_by_field_name("value")
            variables[name] = "" if value is None else _word(value, values)
        elif not child.type.endswith("redirect"):
            words.append(_word(child, values))
    parent = node.parent
    outer = parent if parent is not None and parent.type == "redirected_statement" else node
    return Command(tuple(words), variables, _next_in_pipe(outer, values))


def _next_in_pipe(node: Node, values: Mapping[str, str | None]) -> str:
    """Return the program that reads what this one writes."""
    if node.parent is None or node.parent.type != "pipeline":
        return ""
    after = node.next_named_sibling
    found = next((each for each in _nodes(after) if each.type == "command"), None) if after is not None else None
    return "" if found is None else next((each.program for each in _unwrapped(_command(found, values), values, 0)), "")


def _word(node: Node, values: Mapping[str, str | None]) -> str:
    """Return a word without its quotes, its variables replaced where they are known."""
    kind, text = node.type, _text(node)
    if kind in {"string", "concatenation", "command_name"}:
        return _joined(node, values)
    if kind in {"simple_expansion", "expansion"}:
        return _variable(text, values)
    if kind in {"command_substitution", "process_substitution", "arithmetic_expansion"}:
        return "$(…)"
    plain = {
        "raw_string": text[1:-1],
        "word": text.replace("\\", ""),
        "string_content": text.replace('\\"', '"'),
        '"': "",
    }
    return plain.get(kind, text)


def _variable(text: str, values: Mapping[str, str | None]) -> str:
    """Return the value of `$x` or `${x}`; of one that is not known, or has a modifier, its own text."""
    name = text[1:].removeprefix("{").removesuffix("}")
    return values.get(name) or (f"${{{name}}}" if name.isidentifier() else text)


def _joined(node: Node, values: Mapping[str, str | None]) -> str:
    """Return the parts of a word put together; what stands between them, such as blanks in a string, stays."""
    out, at = "", node.start_byte
    whole = node.text or b""
    for child in node.children:
        out += whole[at - node.start_byte : child.start_byte - node.start_byte].decode(errors="replace")
        out += _word(child, values)
        at = child.end_byte
    return out


def _unwrapped(command: Command, values: Mapping[str, str | None], depth: int) -> Iterator[Command]:
    """Yield what is run in the end: behind sudo, env and xargs, and in the text of `sh -c`."""
    words, variables = list(command.words), dict(command.variables)
    while words and PurePosixPath(words[0]).name in {*_BEFORE, _PIPED}:
        piped = PurePosixPath(words.pop(0)).name == _PIPED
        while words and (words[0].startswith("-") or "=" in words[0]):
            name, equals, value = words.pop(0).partition("=")
            if equals and not name.startswith("-"):
                variables[name] = value
            elif piped and name in {"-a", "-n", "-P", "-I", "-L", "-d", "--arg-file", "--max-args"} and not equals:
                words[:1] = []
    made = Command(tuple(words), variables, command.piped_to)
    script = _inline(made) if depth < _NESTED else None
    if script is None:
        yield made
    else:
        yield from _commands(script, values, depth + 1)


def _inline(command: Command) -> str | None:
    """Return the text that `sh -c` is given, None for anything else."""
    if command.program not in _SHELLS:
        return None
    for at, word in enumerate(command.words[1:], 1):
        if word.startswith("-") and not word.startswith("--") and word.endswith("c"):
            return command.words[at + 1] if at + 1 < len(command.words) else None
        if not word.startswith(("-", "+")):
            return None
    return None
