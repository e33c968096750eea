"""A hook of mkdocs: the repository's own documents, each at its own path, so that their links hold here as they do there."""

from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

ROOT = Path(__file__).resolve().parent.parent
PAGES = ("*.md", "docs/**/*.md", "images/README.md", "benchmarks/results/*", "docs/captures/*")


def on_files(_files: Files, config: MkDocsConfig) -> Files:
    """Return the documents, and the files that they link to, in the place of the docs folder alone."""
    pages = sorted({path for pattern in PAGES for path in ROOT.glob(pattern)})
    return Files([File.generated(config, str(path.relative_to(ROOT)), abs_src_path=str(path)) for path in pages])
