"""build-folder COMMAND: what a compile's script asks for, in this order.

    ready                   exit 0 where this program can run; nothing else
    restore ROOT BUILD      0: the kept folder is in place, so do not configure. 3: configure BUILD, below ROOT;
                            anything else: nothing can be built here
    ninja [--install] [-j N] TARGET...
                            build, and install what is not installed by a target; 75: do as if `restore` had said 3, and then
                            this again
    save                    leave the folder for the next compile
    take DIGEST DIR         copy what was given under that digest to DIR; 1: there is nothing
    give DIGEST FILE...     keep these files under that digest
    digest [--but PATTERN]... PATH...
                            print the digest of these files and folders, of all that compiles, and of stdin

Between `restore` and `save` nobody but BUILD's own commands may change a source.
"""

from __future__ import annotations

import json
import os
import sys

from imagetiers.build_folder import results, toolchain
from imagetiers.build_folder.keep import USED, Keeper

FOLDER = os.environ.get("IMAGETIERS_BUILD_FOLDER_AT", "/build-folder")
GIVEN, LEFT = f"{FOLDER}/in", f"{FOLDER}/out"
STATE = "/tmp/.imagetiers/build-folder"  # noqa: S108  in the container
REPORT = "report.json"
CONFIGURE = 3


def main(words: list[str]) -> int:
    """Do one command; return its exit code."""
    command, *rest = words or ["help"]
    if command == "ready":
        return 0
    if command in {"digest", "take", "give"}:
        return _result(command, rest)
    if command in {"restore", "ninja", "save"}:
        return _step(command, rest)
    print(__doc__, file=sys.stderr)
    return 2


def _result(command: str, words: list[str]) -> int:
    if command == "take":
        return 0 if results.take(GIVEN, LEFT, *words) else 1
    if command == "give":
        results.give(LEFT, words[0], words[1:])
        return 0
    found = Keeper.resume(GIVEN, LEFT, STATE).found
    machine = toolchain.machine([]) if found is None else found.fingerprint
    but = []
    while words[:1] == ["--but"]:
        but.append(words[1])
        words = words[2:]
    print(results.digest(words, but, machine, sys.stdin.buffer.read()))
    return 0


def _step(command: str, words: list[str]) -> int:
    keeper = Keeper.resume(GIVEN, LEFT, STATE)
    code = 0
    if command == "restore":
        try:
            code = 0 if keeper.restore(os.path.realpath(words[0]), os.path.realpath(words[1])) else CONFIGURE
        except OSError as error:
            print(f"-- build folder: {error.filename} {error.strerror}", flush=True)
            return 2
    elif command == "ninja":
        installs = words[:1] == ["--install"]
        words = words[installs:]
        at = 2 if words[:1] == ["-j"] else 0
        code = keeper.build(words[:at], words[at:], installs=installs)
    else:
        kept = keeper.save()
        _report(keeper, LEFT, kept)
        if kept == "none":
            print(f"-- build folder: {keeper.why}", flush=True)
    keeper.suspend()
    if command != "save":
        _say(keeper, command, code)
    return code


def _say(keeper: Keeper, command: str, code: int) -> None:
    """One line of the log for what was decided."""
    if command == "restore" and code == 0:
        first, *others = keeper.changed or ("nothing",)
        more = f" and {len(others)} more" if others else ""
        print(f"-- build folder: in use; changed: {first}{more}", flush=True)
    elif command == "restore" or code == 75:  # noqa: PLR2004
        print(f"-- build folder: not used: {keeper.why}", flush=True)


def _report(keeper: Keeper, left: str, kept: str) -> None:
    os.makedirs(left, exist_ok=True)
    document = {
        "used": keeper.mode == USED,
        "kept": kept,
        "why": keeper.why,
        "changed": len(keeper.changed),
        "made": len(keeper.made),
        "objects": keeper.objects,
    }
    with open(f"{left}/{REPORT}", "w", encoding="utf-8") as file:
        json.dump(document, file)


if __name__ == "__main__":
    sys.dont_write_bytecode = True
    sys.exit(main(sys.argv[1:]))
