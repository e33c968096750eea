"""What a tier's verify.py is made of: functions that check, and `main`, which runs those that its parameters name.

    from imagetiers_checks import Failed, check, main

    @check
    def greeting(expected, params):
        said = ...
        if said != expected:
            raise Failed("it says '{}', not '{}'".format(said, expected))
        return said

    main()

With `verify: {params: {greeting: hello}}` in pipeline.yaml that prints `ok   greeting: hello`. A parameter that no function is named
after, and that `main(options=...)` does not name, is a failure: a misspelt check must not pass for one that holds.
"""

from __future__ import annotations

import glob
import json
import os
import sys
from typing import Any, Callable, Dict, Iterable, List, NoReturn

__all__ = ["Failed", "always", "check", "gpu_check", "gpu_is_here", "main", "run"]

Check = Callable[..., object]


class Failed(Exception):
    """What is wrong, in one line."""


_CHECKS: Dict[str, Check] = {}
_ALWAYS: Dict[str, Check] = {}
_ON_GPU: Dict[str, Check] = {}


def check(function: Check) -> Check:
    """Register a check that runs where `params` have its name: `function(expected, params)` returns what it saw."""
    _CHECKS[function.__name__] = function
    return function


def always(function: Check) -> Check:
    """Register a check that runs in any case: `function(params)`."""
    _ALWAYS[function.__name__] = function
    return function


def gpu_check(function: Check) -> Check:
    """Register a check that runs where there is a GPU, in the order of the file: `function(params)`.

    After one that fails, those behind it do not run: they would only say so again.
    """
    _ON_GPU[function.__name__] = function
    return function


def gpu_is_here() -> bool:
    """Say whether this container has a GPU: the device files of the driver; under WSL there is only its translation's."""
    return bool(glob.glob("/dev/nvidia[0-9]*")) or os.path.exists("/dev/dxg")


def run(name: str, function: Check, *args: object) -> bool:
    """Print a line for a check. What goes wrong inside is its result: a broken library raises whatever it likes."""
    try:
        line, passed = "ok   {}: {}".format(name, function(*args)), True
    except Failed as error:
        line, passed = "FAIL {}: {}".format(name, error), False
    except Exception as error:  # noqa: BLE001
        line, passed = "FAIL {}: {}: {}".format(name, type(error).__name__, " ".join(str(error).split())), False
    print(line, flush=True)  # noqa: T201  it is a program
    return passed


def _unknown(name: str, known: Iterable[str]) -> NoReturn:
    raise Failed("there is no check {}; there are {}".format(name, ", ".join(known)))


def _given(here: bool) -> str:
    if not here:
        raise Failed("this container was given the host's GPUs, and has none")
    return "here"


def main(options: Iterable[str] = (), gpu_if: str = "") -> NoReturn:
    """Run what is asked for, and end the program: 0 if all has passed. `options` are parameters that are no checks.

    Checks of the GPU run where there is one; with `gpu_if`, only where that parameter is given.
    """
    with open(sys.argv[1], encoding="utf-8") as file:
        params: Dict[str, Any] = json.load(file)
    known = list(options) + list(_CHECKS)
    gpu = gpu_is_here()
    passed: List[bool] = [run(name, function, params) for name, function in _ALWAYS.items()]
    for name, expected in params.items():
        if name in _CHECKS:
            passed.append(run(name, _CHECKS[name], expected, params))
        elif name not in known:
            passed.append(run(name, _unknown, name, known))
    if os.environ.get("IMAGETIERS_GPU") and _ON_GPU:
        passed.append(run("GPU", _given, gpu))
    if gpu and (not gpu_if or gpu_if in params):
        for name, function in _ON_GPU.items():
            passed.append(run(name.replace("_", " "), function, params))
            if not passed[-1]:
                break
    sys.exit(0 if all(passed) else 1)
