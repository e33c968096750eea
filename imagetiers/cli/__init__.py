"""The command `imagetiers`: begins a pipeline, and checks an image where there is none. Everything else is doit's: `doit help`.

Exit codes: 0 done; 1 it cannot be done here, and nothing was written, or the image is not what it should be; 3 the command line
or the bake file is wrong; 130 interrupted.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from imagetiers import __version__
from imagetiers.errors import ImagetiersError, PipelineError, Problem
from imagetiers.visible import visible

__all__ = ["main"]

_INTERRUPTED = 130


class _Parser(argparse.ArgumentParser):
    """argparse, whose errors are ours."""

    def error(self, message: str) -> NoReturn:
        """Raise PipelineError (exit code 3)."""
        text = message.partition(" (choose from")[0]  # which Python's versions write differently
        raise PipelineError(Problem(self.prog, text, f"{self.prog} --help shows what there is"))


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; return the exit code."""
    try:
        lines = _run(argv)
    except ImagetiersError as error:
        sys.stderr.write(f"{visible(str(error))}\n")
        return error.exit_code
    except KeyboardInterrupt:
        return _INTERRUPTED
    sys.stdout.writelines(f"{visible(line)}\n" for line in lines)
    return 0


def _run(argv: Sequence[str] | None) -> list[str]:
    from imagetiers.scaffold.variants import VARIANTS

    parser = _Parser(
        prog="imagetiers", description="Begin a pipeline, or check an image. All else is doit's: doit help."
    )
    parser.add_argument("--version", action="store_true", help="show the version")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", parser_class=_Parser)
    init = commands.add_parser("init", help="write a pipeline into this folder; nothing is overwritten")
    known = "; ".join(f"{name}: {what}" for name, what in VARIANTS.items())
    init.add_argument("--variant", metavar="NAME", help=f"which one ({known}); default: minimal")
    init.add_argument(
        "--from-bake", metavar="FILE", help="port a bake file, such as docker-bake.hcl, and list what is left"
    )
    verify = commands.add_parser(
        "verify-supply-chain", help="hold a published image against its signatures; needs no pipeline"
    )
    verify.add_argument("image", metavar="REF", help="HOST/REPOSITORY:TAG or HOST/REPOSITORY@sha256:...")
    verify.add_argument(
        "--key",
        metavar="KEY",
        action="append",
        required=True,
        help="a public key of cosign's: a file, or a KMS's address",
    )
    verify.add_argument("--kinds", metavar="NAMES", help="what must be attested; default: provenance,cyclonedx,spdx")
    given = parser.parse_args(argv)
    if given.version:
        return [f"imagetiers {__version__}"]
    if given.command is None:
        return parser.format_help().splitlines()
    if given.command == "verify-supply-chain":
        from imagetiers.cli.supply_chain import verify_published

        verify_published(given.image, given.key, given.kinds)
        return []
    if given.from_bake is None:
        return _init(Path.cwd(), given.variant or "minimal")
    if given.variant is not None:
        raise PipelineError(Problem("--variant", "means nothing beside --from-bake", "keep one of the two"))
    from imagetiers.cli.from_bake import init_from_bake

    return init_from_bake(Path.cwd(), given.from_bake)


def _init(root: Path, variant: str) -> list[str]:
    from imagetiers.cli.texts import said
    from imagetiers.scaffold.files import write_new
    from imagetiers.scaffold.variants import NEXT, VARIANTS, pipeline_name, variant_files
    from imagetiers.suggestions import did_you_mean

    if variant not in VARIANTS:
        raise PipelineError(
            Problem(f"--variant {variant}", "there is no such variant", did_you_mean(variant, VARIANTS, "variants"))
        )
    written = write_new(root, variant_files(variant, pipeline_name(root.name)))
    return [*said(written), f"next: {NEXT.get(variant, 'doit plan shows what would be done, doit does it')}"]
