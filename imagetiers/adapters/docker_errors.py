"""What the Docker SDK raises, in words: what is wrong with the daemon, or what it refused, and the way out.

The SDK's errors are OSErrors (requests makes its own such), so without this they would pass for trouble with a file.
"""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Iterator
from typing import TYPE_CHECKING

from imagetiers.errors import EngineError, Problem

if TYPE_CHECKING:
    from docker.errors import APIError

__all__ = ["DISK_FULL", "disk_full", "engine_errors", "import_sdk", "no_answer", "refused"]

DISK_FULL = "no space left on device"
_LONGEST = 300
_importing = threading.Lock()


def import_sdk() -> None:
    """Import all of Docker's SDK, before any of its modules is imported by its name.

    They import each other. Two threads that begin with another one each would wait for each other, and Python ends one of
    them with an error.
    """
    with _importing:
        import docker  # noqa: F401


@contextlib.contextmanager
def engine_errors(*meant: type[Exception]) -> Iterator[None]:
    """Turn what the SDK raises in the block into EngineError, but for what the caller is `meant` to get, and full disks."""
    import_sdk()
    import docker.errors
    import requests.exceptions
    import urllib3.exceptions

    try:
        yield
    except EngineError:
        raise
    except docker.errors.APIError as error:
        if DISK_FULL in str(error):
            raise disk_full() from error
        if isinstance(error, meant):
            raise
        raise refused(error) from error
    except (requests.exceptions.Timeout, urllib3.exceptions.TimeoutError, TimeoutError) as error:
        raise no_answer() from error
    except (requests.exceptions.RequestException, urllib3.exceptions.HTTPError, OSError) as error:
        raise _unreachable(error) from error
    except docker.errors.DockerException as error:
        raise _unreachable(error) from error


def refused(error: APIError) -> EngineError:
    """Return what a daemon refused, in its own words."""
    status = error.status_code or 0
    said = " ".join(str(error.explanation or error).split())[:_LONGEST]
    if status >= 500:  # noqa: PLR2004  HTTP: its own trouble
        return EngineError(
            Problem("docker", f"the Docker daemon failed: {said}", "its log says more: journalctl -u docker")
        )
    hints = {
        403: "the daemon, or a proxy before it, forbids this: docker info",
        404: "it was removed meanwhile: run doit again",
        409: "something else uses it: docker ps --all shows what, or run doit again",
    }
    return EngineError(
        Problem(
            "docker", f"the Docker daemon refuses: {said}", hints.get(status, "docker info says which daemon it is")
        )
    )


def disk_full() -> EngineError:
    """Return the error of a daemon whose disk is full."""
    hint = "docker system df shows what fills it; docker builder prune and docker image prune free it"
    return EngineError(Problem("docker", "the disk of the Docker daemon is full", hint))


def no_answer() -> EngineError:
    """Return the error of a daemon that hangs."""
    hint = "docker info hangs, too? then restart it; DOCKER_HOST names another"
    return EngineError(Problem("docker", "the Docker daemon takes connections, but does not answer", hint))


def _unreachable(error: Exception) -> EngineError:
    text = " ".join(str(error).split())
    if "timed out" in text:
        return no_answer()
    host = os.environ.get("DOCKER_HOST", "")
    named = f" (DOCKER_HOST={host})" if host else ""
    if "Permission denied" in text or "PermissionError" in text:
        what, hint = (
            "this user may not talk to the Docker daemon",
            "sudo usermod -aG docker $USER, then log in again; or run doit as root",
        )
    elif "FileNotFoundError" in text or "No such file" in text:
        what, hint = (
            "no Docker daemon is here (there is no socket)",
            "systemctl start docker, or let DOCKER_HOST name another; https://docs.docker.com/engine/install/",
        )
    elif "refused" in text:
        what, hint = (
            f"the Docker daemon does not run (connection refused){named}",
            "systemctl start docker",
        )
    elif "Name or service not known" in text or "NameResolution" in text or "getaddrinfo" in text:
        what, hint = f"the Docker daemon's host is not known{named}", "correct DOCKER_HOST"
    elif host and ("bind address" in text or "Unrecognised" in text or "Invalid" in text):
        what, hint = (
            f"DOCKER_HOST={host} is no address of a Docker daemon",
            "write unix:///run/docker.sock, tcp://HOST:PORT or ssh://USER@HOST",
        )
    elif any(
        word in text for word in ("Connection aborted", "reset by peer", "Broken pipe", "IncompleteRead", "closed")
    ):
        what, hint = f"the connection to the Docker daemon broke{named}", "is it restarting? run doit again"
    elif "Expecting value" in text or "Extra data" in text:
        what, hint = f"what answers here is no Docker daemon{named}", "correct DOCKER_HOST"
    else:
        what, hint = (
            f"there is no talking to the Docker daemon{named}: {text[:_LONGEST]}",
            "docker info says more; DOCKER_HOST names the daemon",
        )
    return EngineError(Problem("docker", what, hint))
