"""What a compile step says of its outputs: patterns that stay in their folder, and a stage for them that the image takes."""

from __future__ import annotations

from collections.abc import Collection, Iterator

from imagetiers.config.loader import Config
from imagetiers.config.model import ONLY_WHEELS, CompileStep, Tier
from imagetiers.config.schema import cut
from imagetiers.dockerfile.model import Dockerfile, Stage
from imagetiers.errors import Problem
from imagetiers.inputs.manifest import wrong_pattern

__all__ = ["output_problems"]

_INSIDE = "write it relative to the folder, such as bin/* or dist/*.tar.gz"


def output_problems(
    config: Config, tier: Tier, step: CompileStep, dockerfile: Dockerfile, reached: Collection[Stage]
) -> Iterator[Problem]:
    """Yield what is wrong with the patterns of a step, and that nothing in the image takes what it makes."""
    given = config.tree.at(("tiers", tier.name, "compile", "outputs")).plain() if step.outputs != ONLY_WHEELS else []
    for index, pattern in enumerate(given):
        wrong = wrong_pattern(pattern.removeprefix("./").rstrip("/"))
        if wrong is not None or pattern.startswith("!"):
            what, hint = wrong or ("takes something away", "name what is kept, and nothing else")
            hint = (
                _INSIDE if what.startswith("leaves ") else "write ** for all of it" if what == "names no file" else hint
            )
            what = "leaves the folder of the outputs" if what.startswith("leaves ") else what
            where = config.place("tiers", tier.name, "compile", "outputs", index)
            yield Problem(where, f"'{cut(pattern)}' {what}", hint)
    stage = dockerfile.stage(step.wheels_stage)
    if stage not in reached:
        what = f"nothing in the image takes the {step.made} from the stage '{step.wheels_stage}'"
        cure = f"RUN --mount=type=bind,from={step.wheels_stage},target=/{step.made} ..."
        hint = cure if step.outputs == ONLY_WHEELS else f"COPY --from={step.wheels_stage} ..."
        yield Problem(config.place("tiers", tier.name, "compile"), what, hint)
