"""Work in a second process: what is mostly Python, threads would do one after the other."""

from __future__ import annotations

import json
import os
from collections.abc import Callable

from imagetiers.build_folder.errors import UnusableError

__all__ = ["beside"]


def beside(work: Callable[[], dict[str, str]]) -> Callable[[], dict[str, str]]:
    """Begin the work in a copy of this process; what comes back waits for what it returns. Raises UnusableError if it fails."""
    reader, writer = os.pipe()
    process = os.fork()
    if process == 0:
        code = 1
        try:
            os.close(reader)
            with os.fdopen(writer, "w", encoding="utf-8") as file:
                json.dump(work(), file)
            code = 0
        finally:
            os._exit(code)  # nothing else of the copy may run: it has the files of this process open
    os.close(writer)

    def wait() -> dict[str, str]:
        with os.fdopen(reader, encoding="utf-8") as file:
            text = file.read()
        _, status = os.waitpid(process, 0)
        if status:
            raise UnusableError(
                f"what compiles could not be read: the process ended with {os.waitstatus_to_exitcode(status)}"
            )
        return dict(json.loads(text))

    return wait
