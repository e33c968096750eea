"""Rules about secrets and the user of an image."""

from __future__ import annotations

from collections.abc import Iterator
from urllib.parse import urlsplit

from imagetiers.dockerfile.model import Instruction, arg_words, env_words
from imagetiers.rules.rule import Rule, Severity, Spot
from imagetiers.rules.subject import StageStep, Subject

__all__ = ["RULES"]

# Words of a name, as BuildKit's own check SecretsUsedInArgOrEnv has them.
_SECRET = frozenset(
    {"apikey", "auth", "credential", "credentials", "key", "password", "pword", "passwd", "secret", "token"}
)
_ROOT = frozenset({"root", "0"})


def _is_secret(name: str) -> bool:
    words = name.lower().split("_")
    return bool(_SECRET & set(words)) and "public" not in words


def _named(instruction: Instruction, escape: str) -> Iterator[tuple[str, str]]:
    if instruction.keyword == "ARG":
        yield from ((name, default or "") for name, default in arg_words(instruction, escape))
    elif instruction.keyword == "ENV":
        yield from env_words(instruction, escape)


def _password(text: str) -> bool:
    """Say whether a word is a URL with a password in it, and not with a variable in its place."""
    if "://" not in text:
        return False
    try:
        password = urlsplit(text.strip("\"'")).password
    except ValueError:
        return False
    return bool(password) and "$" not in (password or "")


def _secrets(subject: Subject) -> Iterator[Spot]:
    dockerfile = subject.inputs.dockerfile
    for instruction in (*dockerfile.global_args, *(i for stage in subject.stages for i in stage.instructions)):
        for name, value in _named(instruction, dockerfile.escape):
            if _is_secret(name):
                yield instruction.line, f"{instruction.keyword} {name} is in the image's history for everybody to read"
            elif _password(value):
                yield instruction.line, f"{instruction.keyword} {name} holds a URL with a password"
    for step in subject.steps(*subject.stages):
        if any(_password(word) for word in _words(step)):
            yield step.line, f"this {step.keyword} holds a URL with a password"


def _words(step: StageStep) -> Iterator[str]:
    for command in step.commands:
        yield from command.words
        yield from command.variables.values()
    if step.keyword in {"ADD", "COPY"}:
        yield from step.instruction.words()


def _root(subject: Subject) -> Iterator[Spot]:
    output = subject.inputs.tier.output
    if output is not None and not output.runs:
        return
    users = [step for step in subject.steps(*subject.shipped) if step.keyword == "USER"]
    handed = subject.handed_on()
    if users and handed.user is not None:
        if handed.user.partition(":")[0] in _ROOT:
            yield users[-1].line, f"the image runs as {handed.user}"
    elif subject.inputs.tier.parent is None or subject.inputs.parent not in subject.inputs.reading.outside(
        subject.shipped
    ):
        yield subject.inputs.target.line, "no USER says as whom the image runs; most base images run as root"


def _health(subject: Subject) -> Iterator[Spot]:
    exposed = [step.line for step in subject.steps(*subject.shipped) if step.keyword == "EXPOSE"]
    says = any(step.keyword == "HEALTHCHECK" for step in subject.steps(*subject.shipped))
    if exposed and not says and not subject.handed_on().has_health:
        yield exposed[0], "a port is exposed, but no HEALTHCHECK says whether anything answers there"


RULES = (
    Rule(
        id="secret-in-arg",
        severity=Severity.ERROR,
        title="a secret in ARG, ENV or a URL",
        why="its value is in the image's history or environment, in the key document and in every cache that keeps those",
        fix="RUN --mount=type=secret,id=…, and name it under the tier's secrets:",
        look=_secrets,
    ),
    Rule(
        id="root-user",
        severity=Severity.WARNING,
        title="an image that runs as root",
        why="who breaks out of the program is root in the container, and owns what it writes to mounted folders",
        fix="RUN useradd --uid 10001 app, and end the last stage with USER app",
        look=_root,
    ),
    Rule(
        id="no-healthcheck",
        severity=Severity.WARNING,
        title="a port without a health check",
        why="a server that hangs is sent requests for as long as its process lives",
        fix="HEALTHCHECK CMD …, or HEALTHCHECK NONE where the orchestrator probes by itself",
        look=_health,
    ),
)
