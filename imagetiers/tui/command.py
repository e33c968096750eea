"""What the keys do: a doit that somebody could have typed, as a value. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from imagetiers.config.model import Pipeline, Trust
from imagetiers.planning.plan import TierPlan

__all__ = ["VERBS", "DoitCommand", "command_for", "variables"]


@dataclass(frozen=True, slots=True)
class Verb:
    """A key, what it is called, and the words of its doit; `{tier}` is the tier's name. Not all stand at the screen's foot."""

    key: str
    name: str
    words: tuple[str, ...]
    shown: bool = True


VERBS = (
    Verb("p", "plan", ("plan",)),
    Verb("b", "build", ("image:{tier}",)),
    Verb("v", "verify", ("verify:{tier}",)),
    Verb("u", "push", ("push:{tier}",)),
    Verb("l", "pull", ("pull:{tier}",)),
    Verb("c", "clean", ("clean", "image:{tier}")),
    # Nobody can be asked there, so these are dry runs; the capital letter does what they have shown.
    Verb("s", "set up", ("setup",)),
    Verb("S", "set up, really", ("setup", "--yes"), shown=False),
    Verb("t", "tear down", ("teardown",), shown=False),
    Verb("T", "tear down, really", ("teardown", "--yes"), shown=False),
)


@dataclass(frozen=True, slots=True)
class DoitCommand:
    """A doit: its words behind `doit`."""

    words: tuple[str, ...]

    def __str__(self) -> str:
        return " ".join(("doit", *self.words))


def command_for(verb: Verb, tier: TierPlan, pipeline: Pipeline, trust: Trust) -> DoitCommand:
    """Return the command of a key, with the variant, the variables and the trust that are looked at."""
    words = [word.format(tier=tier.name) for word in verb.words]
    return DoitCommand((*words[:-1], *variables(pipeline, trust), words[-1]))


def variables(pipeline: Pipeline, trust: Trust) -> Iterator[str]:
    """Yield the words that let another doit read the pipeline as this one has."""
    yield from pipeline.variables
    if not trust.trusted:
        yield from ("trust=untrusted", f"branch={trust.branch}")
