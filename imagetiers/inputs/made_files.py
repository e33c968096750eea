"""Whether tiers that make files and what the tiers' folders hold fit together."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from imagetiers.config.layout import MANIFEST, VERIFY_SCRIPT
from imagetiers.config.model import Pipeline
from imagetiers.config.output import overlap
from imagetiers.errors import Problem
from imagetiers.inputs.snapshot import TierFiles

__all__ = ["made_file_problems"]


def made_file_problems(pipeline: Pipeline, files: Mapping[str, TierFiles]) -> Iterator[Problem]:
    """Yield manifests that take what a tier makes, of which no key would know when it is made; and checks of no image."""
    outputs = {name: tier.output for name, tier in pipeline.tiers.items() if tier.output is not None}
    for name, read in files.items():
        folder = pipeline.tiers[name].folder_path
        if name in outputs and read.verify is not None:
            what = f"checks an image, but with an output the tier {name} makes none"
            yield Problem(f"{folder}/{VERIFY_SCRIPT}", what, "remove it, or check the files in a RUN of the Dockerfile")
        for line in read.lines:
            taken = (maker for maker, output in outputs.items() if line.from_root and overlap(line.start, output.dest))
            for maker in () if line.exclude else taken:
                what = f"'//{line.pattern}' takes what the tier {maker} makes ({outputs[maker].dest})"
                hint = f"let the Dockerfile of {maker} be a stage of this tier's"
                yield Problem(f"{folder}/{MANIFEST}:{line.number}", what, hint)
