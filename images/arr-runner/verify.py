"""Check from inside what arr-runner adds.

    python3 verify.py EXPECTATIONS.json

EXPECTATIONS.json holds the tier's `verify:` of pipeline.yaml; only what it and its `params` name is checked.

    versions: {pytorch-c10: "2.6.0"}   what `arr-run --version` names; local parts such as +cu124 do not count
    params.run: true                   `arr-run run` trains and leaves a result
    params.agent: vertex               `arr-run agent` is there, with what it needs to submit jobs to Vertex AI
    params.options: {steps: 50}        the options of that training
"""

import importlib
import json
import os
import pathlib
import subprocess
import sys
import tempfile


class Failed(Exception):
    """What is wrong, in one line."""


def call(*arguments, **environment):
    """The output of the entry point."""
    command, variables = ["arr-run", *arguments], {**os.environ, **environment}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=variables)
    if done.returncode:
        last = (done.stderr.strip() or "no message").splitlines()[-1]
        raise Failed(f"{' '.join(command)} ended with {done.returncode}: {last}")
    return done.stdout


def check_help(_expected, _options):
    """Holds for every runner: it tells how it is used."""
    if "arr-run run" not in call("--help"):
        raise Failed("arr-run --help does not name its verb run")
    return "arr-run --help names its verbs"


def check_versions(expected, _options):
    """Those that are named, by their public part."""
    pairs = (entry.rsplit(" ", 1) for entry in call("--version").strip().removeprefix("arr-run: ").split(", "))
    found = {name: version.partition("+")[0] for name, version in pairs}
    wrong = [f"{name} is {found.get(name, 'missing')}, not {v}" for name, v in expected.items() if found.get(name) != v]
    if wrong:
        raise Failed("; ".join(wrong))
    return ", ".join(f"{name} {found[name]}" for name in expected)


def check_run(expected, options):
    """A whole training, the way a scheduler starts it."""
    if not expected:
        return "not asked for"
    with tempfile.TemporaryDirectory() as folder:
        call("run", *(f"--{name}={value}" for name, value in options.items()), ARR_OUT=folder)
        result = json.loads(pathlib.Path(folder, "result.json").read_text())
    return f"{result['steps']} steps by {result['backend']}, loss {result['loss']:.5f}"


def check_agent(expected, _options):
    """The agent imports these only when it meets a queue of that kind: a missing one would show with the first job."""
    if expected != "vertex":
        raise Failed(f"no such kind of agent: {expected}; there is vertex")
    if "launch agent" not in call("agent", "--help"):
        raise Failed("arr-run agent --help does not speak of a launch agent")
    for module in VERTEX:
        importlib.import_module(f"wandb.sdk.launch.{module}")
    return "arr-run agent --help; " + ", ".join(VERTEX)


def check_unknown(name):
    """A misspelt expectation must not pass for one that holds."""
    raise Failed(f"{name} is no check of this tier; there are params.options, " + ", ".join(CHECKS))


VERTEX = ("agent", "environment.gcp_environment", "runner.vertex_runner", "builder.noop")
CHECKS = {"versions": check_versions, "run": check_run, "agent": check_agent}


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
    params = expected.pop("params", {})
    options = params.pop("options", {})
    wanted = {**expected, **params}
    passed = [run("help", check_help, None, options)]
    passed += [run(n, CHECKS[n], v, options) if n in CHECKS else run(n, check_unknown, n) for n, v in wanted.items()]
    return 0 if all(passed) else 1


sys.exit(main())
