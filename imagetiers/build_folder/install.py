"""What CMake installs: what is only copied while compilers run, and the rest when it is linked."""

from __future__ import annotations

import contextlib
import os
import subprocess
import time
from collections.abc import Iterator

__all__ = ["ahead", "install"]

_RULES = "cmake_install.cmake"
_COPIED = "-- Installing: "
_SLACK = 2 * 10**9
"""Nanoseconds: what differs by less than a second CMake takes for the same."""

_AHEAD = """\
# CMake's own command has this name with an underscore once there is another of its name.
function(file action)
  set(words ${{ARGN}})
  list(FIND words TYPE at)
  if(action STREQUAL INSTALL AND NOT at EQUAL -1)
    math(EXPR at "${{at}} + 1")
    list(GET words ${{at}} type)
    if(type MATCHES "^(FILE|PROGRAM|DIRECTORY)$")
      list(REMOVE_ITEM words MESSAGE_NEVER MESSAGE_LAZY)
      _file(INSTALL ${{words}})
    endif()
  endif()
endfunction()
function(execute_process)
endfunction()
include([==[{rules}]==])
"""


def install(build: str) -> int:
    """Do what `ninja install` does when all is built; return CMake's exit code."""
    return subprocess.run(["cmake", "-P", _RULES], cwd=build, check=False).returncode


@contextlib.contextmanager
def ahead(build: str, state: str) -> Iterator[None]:
    """While the block runs, install what needs no linker. What it does not come to, and what is not so any more, is left.

    `install` copies a file again whose time is another than that of its copy. So what the block has made, or is about to, may
    be copied too early and no harm is done: only where both times may be within a second of each other the copy is removed.
    """
    began = time.time_ns()
    script, told = f"{state}/install.cmake", f"{state}/installed.txt"
    with open(script, "w", encoding="utf-8", errors="surrogateescape") as file:
        file.write(_AHEAD.format(rules=f"{build}/{_RULES}"))
    words = ["nice", "cmake", "-P", script]
    try:
        with open(told, "wb") as out:
            copying = subprocess.Popen(words, cwd=build, stdout=out, stderr=subprocess.DEVNULL)
    except OSError:  # it is not there: `install` will say so
        yield
        return
    try:
        yield
    finally:
        copying.wait()
        with open(told, encoding="utf-8", errors="surrogateescape") as lines:
            copies = [line[len(_COPIED) :].rstrip("\n") for line in lines if line.startswith(_COPIED)]
        for path in copies:
            with contextlib.suppress(OSError):
                if not os.path.isdir(path) and os.lstat(path).st_mtime_ns > began - _SLACK:
                    os.unlink(path)
