"""The pipelines that `imagetiers init` knows, from the package's own files."""

from __future__ import annotations

import re
from collections.abc import Iterator
from importlib.resources import files
from importlib.resources.abc import Traversable

from imagetiers.config.editor_schema import editor_schema_text
from imagetiers.scaffold.files import NewFile

__all__ = ["NEXT", "VARIANTS", "common_files", "pipeline_name", "variant_files"]

VARIANTS = {
    "minimal": "two tiers: a base, and a script on it",
    "python-app": "three tiers: Python, its packages, and a program",
    "pytorch": "two tiers: PyTorch compiled from source for your GPUs, and a program on it",
}
NEXT = {
    "pytorch": "doit variant=quickstart builds it with a small part of PyTorch, doit with all of it for your GPUs",
}
"""What to do after `init`, where it is not what `doit plan` and `doit` alone say."""
_NAME = b"@NAME@"
_LONGEST = 60  # as the schema has it


def pipeline_name(folder: str) -> str:
    """Return the name of a pipeline in a folder of this name: the schema's letters, and `pipeline` where none is left."""
    name = re.sub(r"[^a-z0-9]+", "-", folder.lower())[:_LONGEST].strip("-")
    return name or "pipeline"


def variant_files(variant: str, name: str) -> tuple[NewFile, ...]:
    """Return the files of a new pipeline called `name`, by path. Raises KeyError when there is no such variant."""
    if variant not in VARIANTS:
        raise KeyError(variant)
    own = (
        NewFile(path, data.replace(_NAME, name.encode()) if path == "pipeline.yaml" else data)
        for path, data in _files(files(__package__) / "templates" / variant)
    )
    return tuple(sorted((*own, *common_files()), key=lambda file: file.path))


def common_files() -> tuple[NewFile, ...]:
    """Return what every pipeline has: dodo.py, .gitignore, and the schema for editors, which git does not keep."""
    found = dict(_files(files(__package__) / "templates" / "common"))  # there, .gitignore would hold for git itself
    return (
        NewFile(".gitignore", found["gitignore"]),
        NewFile(".imagetiers/pipeline.schema.json", editor_schema_text()),
        NewFile("dodo.py", found["dodo.py"]),
    )


def _files(folder: Traversable, prefix: str = "") -> Iterator[tuple[str, bytes]]:
    for entry in folder.iterdir():
        path = prefix + entry.name
        if entry.is_file():
            yield path, entry.read_bytes()
        elif entry.name != "__pycache__":
            yield from _files(entry, f"{path}/")
