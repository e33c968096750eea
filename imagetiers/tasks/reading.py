"""The repository, read, or all that is wrong with it. Imported where no plan is remembered: most runs do nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, date, datetime

from imagetiers.config.editor_schema import keep_marks
from imagetiers.config.layout import Layout
from imagetiers.config.loader import load_config
from imagetiers.config.model import NOTHING_GIVEN
from imagetiers.errors import PipelineError, Problem, UndeclaredError
from imagetiers.inputs.repository import Repository, load_repository
from imagetiers.planning.make import make_plan
from imagetiers.planning.plan import Plan
from imagetiers.repository_file import Reads
from imagetiers.state.plan_memory import Remembered, recall_hashes, remember
from imagetiers.tasks.start import Opened

__all__ = ["open_repository", "pipeline_problems", "read_plan", "read_whole"]


def read_plan(
    layout: Layout, variant: str | None, given: Mapping[str, str], today: date
) -> tuple[Remembered, Callable[[], None]]:
    """Read the repository; return its plan with the names of the variants, and what remembers it.

    Raises PipelineError as `open_repository` does.
    """
    reads = Reads(recall_hashes(layout))
    repository = open_repository(layout, variant, given, reads)
    found = Remembered(make_plan(repository, today), repository.variants)

    def keep() -> None:
        keep_marks(repository.marks, layout.editor_schema)
        remember(layout, variant, today, found, reads, given)

    return found, keep


def read_whole(layout: Layout, variant: str | None, known: Plan) -> Opened:
    """Read the repository of a plan that was remembered, with the contents of its files.

    Raises PipelineError when it is not the same any more.
    """
    found, keep = read_plan(layout, variant, known.pipeline.given, datetime.now(tz=UTC).date())
    if _keys(found.plan) != _keys(known):
        raise PipelineError(Problem("", "the repository was changed while doit began", "run doit again"))
    return Opened(found.plan, found.variants, remembered=False, keep=keep)


def _keys(plan: Plan) -> list[tuple[str, str, str]]:
    return [(tier.key, tier.compile.key if tier.compile else "", tier.verify.check) for tier in plan.tiers.values()]


def open_repository(
    layout: Layout, variant: str | None, given: Mapping[str, str] = NOTHING_GIVEN, reads: Reads | None = None
) -> Repository:
    """Read the repository with its variant and the variables `given`; `reads` notes what is looked at.

    Raises UndeclaredError for a variable that there is not, PipelineError with all that is wrong: with the variant, and
    then also without it; with the base, and then in every variant.
    """
    try:
        return load_repository(layout, variant, reads, given)
    except UndeclaredError:
        raise
    except PipelineError:
        variants = (variant,) if variant is not None else _names(layout, given)
        raise PipelineError(*pipeline_problems(layout, variants, given)) from None


def _names(layout: Layout, given: Mapping[str, str]) -> tuple[str, ...]:
    try:
        return load_config(layout, None, given=given).variants
    except PipelineError:
        return ()


def pipeline_problems(
    layout: Layout, variants: Iterable[str], given: Mapping[str, str] = NOTHING_GIVEN
) -> tuple[Problem, ...]:
    """Return what is wrong with the base, and what only with one of the variants."""
    found: dict[tuple[str, str], Problem] = {}
    for variant in (None, *variants):
        try:
            load_repository(layout, variant, given=given)
        except PipelineError as error:
            for problem in error.problems:
                where = problem.where
                if variant is not None and not problem.what.startswith("variant="):
                    where = ": ".join(filter(None, (f"variant={variant}", where)))
                found.setdefault((problem.where, problem.what), Problem(where, problem.what, problem.hint))
    return tuple(found.values())
