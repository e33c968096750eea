"""Check from inside what arr-base adds.

    python3 verify.py EXPECTATIONS.json

EXPECTATIONS.json holds the tier's `verify:` of pipeline.yaml; only what it names is checked.

    modules: {numpy: "2", yaml: "6"}    they import, and their version begins so
    commands: [tini]                    they are on PATH
"""

import importlib
import json
import shutil
import sys


class Failed(Exception):
    """What is wrong, in one line."""


def check_modules(expected):
    """Import each one: a missing shared library shows only then."""
    found = {}
    for name, wanted in expected.items():
        found[name] = importlib.import_module(name).__version__
        if found[name].split(".")[: len(wanted.split("."))] != wanted.split("."):
            raise Failed(f"{name} is {found[name]}, not {wanted}")
    return ", ".join(f"{name} {version}" for name, version in found.items())


def check_commands(expected):
    """Each is on PATH."""
    missing = [name for name in expected if not shutil.which(name)]
    if missing:
        raise Failed("not on PATH: " + ", ".join(missing))
    return ", ".join(expected)


def check_unknown(name):
    """A misspelt expectation must not pass for one that holds."""
    raise Failed(f"{name} is no check of this tier; there are " + ", ".join(CHECKS))


CHECKS = {"modules": check_modules, "commands": check_commands}


def run(name, check, *args):
    """One line per check; what goes wrong inside is its result."""
    try:
        line, passed = f"ok   {name}: {check(*args)}", True
    except Failed as error:
        line, passed = f"FAIL {name}: {error}", False
    except Exception as error:
        line, passed = f"FAIL {name}: {type(error).__name__}: {' '.join(str(error).split())}", False
    print(line, flush=True)
    return passed


def main():
    """Run what the expectations name."""
    with open(sys.argv[1], encoding="utf-8") as file:
        expected = json.load(file)
    passed = [run(n, CHECKS[n], v) if n in CHECKS else run(n, check_unknown, n) for n, v in expected.items()]
    return 0 if all(passed) else 1


sys.exit(main())
