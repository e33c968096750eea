"""A pipeline as somebody has it in a folder: its keys, by the real code, and its images, by BuildKit alone.

The images are built as people build without imagetiers: the folder as it is, the Dockerfile as it was written, and the
build arguments that pipeline.yaml gives. What the manifest takes away is in `.dockerignore`. So nothing of our own reading
decides what an image holds here.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from imagetiers.config.layout import Layout
from imagetiers.inputs.repository import load_repository
from imagetiers.planning.make import make_plan
from imagetiers.planning.plan import Plan
from tests.oracle.buildkit import BASE, Outcome, build, digest, tagged
from tests.oracle.ours import DAY, FILES

__all__ = ["ALL", "File", "Project", "images_of", "keys_of"]

ALL = "**\n"
_OWN = ".dockerignore\n.image-manifest\n"


@dataclass(frozen=True)
class File:
    """A file of the folder, or a link."""

    content: bytes = b""
    executable: bool = False
    link: str | None = None


def _files() -> Mapping[str, File]:
    return {
        name: File(link=content) if isinstance(content, str) else File(content, executable=name.endswith(".sh"))
        for name, content in FILES.items()
    }


@dataclass(frozen=True)
class Project:
    """A tier: its Dockerfile, the arguments and files that it gets, what it is built FROM, and its `target`.

    `digest` is what pipeline.lock.yaml pins the base at, and `digests` are what its tag has been. `parent` is another tier,
    which this one is built FROM instead. With `compiles` the stages `builder` and `wheels` are those of a compile step.
    `ignored` are patterns that the manifest takes away with '!'.
    """

    text: str
    args: Mapping[str, str] = field(default_factory=dict)
    files: Mapping[str, File] = field(default_factory=_files)
    manifest: str = ALL
    ignored: tuple[str, ...] = ()
    base: str = BASE
    digest: str = ""
    digests: tuple[str, ...] = ()
    target: str | None = None
    parent: Project | None = None
    compiles: bool = False

    def __str__(self) -> str:
        around = {"args": dict(self.args), "target": self.target, "base": self.base, "digest": self.digest}
        told = ", ".join(f"{name} {value}" for name, value in around.items() if value)
        above = f"parent:\n{self.parent}\n" if self.parent is not None else ""
        return f"{above}{told}\n{self.text}"


def keys_of(project: Project) -> Mapping[str, str]:
    """Return the project's keys: of the image, and of the compile. Raises PipelineError where it is refused."""
    plan = _plan(project)
    tier = plan.tiers["t"]
    return {"image": tier.key} | ({"compile": tier.compile.key} if tier.compile is not None else {})


def _plan(project: Project) -> Plan:
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        tiers: dict[str, object] = {"t": _tier(project, root / "images" / "t")}
        if project.parent is not None:
            tiers["p"] = _tier(project.parent, root / "images" / "p")
        (root / "pipeline.yaml").write_text(json.dumps({"version": 1, "name": "oracle", "tiers": tiers}))
        pins = {each.base: each.digest for each in (project, project.parent) if each is not None and each.digest}
        if pins:
            (root / "pipeline.lock.yaml").write_text(json.dumps({"images": pins, "git": {}}))
        return make_plan(load_repository(Layout(root), None), DAY)


def _tier(project: Project, folder: Path) -> Mapping[str, object]:
    _write(project, folder)
    excluded = "".join(f"!{pattern}\n" for pattern in project.ignored)
    (folder / ".image-manifest").write_text(project.manifest + excluded)
    tier: dict[str, object] = {"args": dict(project.args)}
    tier |= {"parent": "p"} if project.parent is not None else {"bases": {"BASE": project.base}}
    tier |= {"target": project.target} if project.target is not None else {}
    tier |= {"compile": {"stage": "builder", "run": ["true"]}} if project.compiles else {}
    return tier


def _write(project: Project, folder: Path) -> None:
    folder.mkdir(parents=True)
    (folder / "Dockerfile").write_bytes(project.text.encode())
    for name, file in project.files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if file.link is not None:
            path.symlink_to(file.link)
        else:
            path.write_bytes(file.content)
            path.chmod(0o755 if file.executable else 0o644)


def images_of(project: Project) -> Mapping[str, Outcome]:
    """Build the project as somebody would who has no imagetiers.

    `compile` is the image that a compile would run in; its wheels are made up, and others whenever that image is another.
    """
    if project.parent is None:
        base = f"{project.base}@{project.digest}" if project.digest else project.base
        return _images(project, {"BASE": base, **project.args})
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder) / "p"
        _write(project.parent, root)
        (root / ".dockerignore").write_text(_OWN + "".join(f"{pattern}\n" for pattern in project.parent.ignored))
        given = {"BASE": project.parent.base, **project.parent.args}
        parent = tagged(root, given, project.parent.target)
        return (
            {"image": parent} if isinstance(parent, Outcome) else _images(project, {"PARENT": parent, **project.args})
        )


def _images(project: Project, args: Mapping[str, str]) -> Mapping[str, Outcome]:
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder) / "t"
        _write(project, root)
        (root / ".image-manifest").write_text(project.manifest)
        (root / ".dockerignore").write_text(_OWN + "".join(f"{pattern}\n" for pattern in project.ignored))
        contexts: dict[str, Path] = {}
        found: dict[str, Outcome] = {}
        if project.compiles:
            builder = build(root, args, "builder")
            if not builder.built:
                return {"image": builder, "compile": builder}
            found["compile"] = _without_text(project, builder)
            contexts["wheels"] = Path(folder) / "wheels"
            contexts["wheels"].mkdir()
            (contexts["wheels"] / "made.whl").write_text(found["compile"].digest)
        found["image"] = _without_text(project, build(root, args, project.target, contexts=contexts))
    return found


def _without_text(project: Project, outcome: Outcome) -> Outcome:
    """Leave out what a file that is the Dockerfile itself says: its comments, which are not sent, are no part of a key."""
    if outcome.files is None:
        return outcome
    own = digest(project.text.encode())
    files = {
        path: replace(entry, content="the Dockerfile") if entry.content == own else entry
        for path, entry in outcome.files.items()
    }
    return replace(outcome, files=files)
