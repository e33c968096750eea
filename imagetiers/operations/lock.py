"""lock: resolve the tags of outside images and git refs, in all variants, and pin them in pipeline.lock.yaml."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import groupby

from imagetiers.config.layout import PIPELINE_LOCK
from imagetiers.config.loader import load_config
from imagetiers.config.lockfile import changes, lock_text
from imagetiers.config.model import GitRef, Tier
from imagetiers.errors import PipelineError, Problem, RegistryError
from imagetiers.operations.outfile import write_out
from imagetiers.planning.observed import Present, Unknown
from imagetiers.services import Services
from imagetiers.session import Session

__all__ = ["lock_pins"]


def lock_pins(session: Session, variants: Iterable[str], *, check: bool, keep: bool) -> None:
    """Pin what every variant is built from, and nothing else; with `check` only say what is stale.

    With `keep` all pins stay as they are, and what has none is added: so there are pins of several values of a variable.
    All or nothing: one that cannot be resolved leaves the file as it is. Raises RegistryError, and PipelineError when
    `check` finds it stale.
    """
    given = session.plan.pipeline.given
    configs = [load_config(session.layout, variant, given=given) for variant in (None, *variants)]
    tiers = [tier for config in configs for tier in config.pipeline.tiers.values()]
    problems: list[Problem] = []
    pinned = configs[0].pipeline
    images = _images(tiers, pinned.pins, session.services, problems, keep=keep)
    commits = _commits(tiers, pinned.commits, session.services, problems, keep=keep)
    RegistryError.raise_if(problems)
    shown = "\n".join(map(str, (*changes(pinned.pins, images), *changes(pinned.commits, commits))))
    if not shown:
        session.services.console.line(f"{PIPELINE_LOCK}: {len(images) + len(commits)} pins are up to date")
    elif check:
        raise PipelineError(
            Problem(PIPELINE_LOCK, f"is stale:\n{shown}", "doit lock, then look at the change and commit it")
        )
    else:
        write_out(session.layout.lock, lock_text(images, commits), PIPELINE_LOCK)
        session.services.console.line(f"{PIPELINE_LOCK}:\n{shown}")


def _images(
    tiers: Iterable[Tier], before: Mapping[str, str], services: Services, problems: list[Problem], *, keep: bool
) -> dict[str, str]:
    refs = sorted({ref for tier in tiers for ref in tier.outside if "@" not in ref})
    after = {ref: digest for ref, digest in before.items() if keep or ref in refs}
    for ref, answer in services.registry.look_up([ref for ref in refs if not (keep and ref in before)]).items():
        if isinstance(answer, Present):
            after[ref] = answer.digest
        elif isinstance(answer, Unknown):
            problems.append(Problem(ref, f"cannot be resolved: {answer.reason}", f"{PIPELINE_LOCK} stays as it is"))
        else:
            problems.append(Problem(ref, "its registry has no such image", "correct it in pipeline.yaml"))
    return after


def _commits(
    tiers: Iterable[Tier], before: Mapping[str, str], services: Services, problems: list[Problem], *, keep: bool
) -> dict[str, str]:
    sources = {source.name: source for tier in tiers for source in tier.sources.values() if not source.fixed}
    after = {name: commit for name, commit in before.items() if keep or name in sources}
    asked = [source for name, source in sorted(sources.items()) if not (keep and name in before)]
    for url, group in groupby(asked, key=lambda source: source.git):
        for ref, answer in services.git.look_up(url, [source.ref for source in group]).items():
            name = GitRef(url, ref).name
            if isinstance(answer, str):
                after[name] = answer
            elif isinstance(answer, Unknown):
                hint = f"{PIPELINE_LOCK} stays as it is"
                problems.append(Problem(name, f"cannot be resolved: {answer.reason}", hint))
            else:
                hint = "correct tiers.*.sources in pipeline.yaml; of a commit, write all 40 digits"
                problems.append(Problem(name, "the repository has no such tag or branch", hint))
    return after
