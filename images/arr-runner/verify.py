"""Check from inside what arr-runner adds, by the tier's `params`.

    run: true               `arr-run run` trains and leaves a result
    agent: vertex           `arr-run agent` is there, with what it needs to submit jobs to Vertex AI
    options: {steps: 50}    the options of that training
"""

import importlib
import json
import os
import pathlib
import subprocess
import tempfile

from imagetiers_checks import Failed, check, main

VERTEX = ("agent", "environment.gcp_environment", "runner.vertex_runner", "builder.noop")


def call(*arguments, **environment):
    """The output of the entry point."""
    command, variables = ["arr-run", *arguments], {**os.environ, **environment}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=variables)
    if done.returncode:
        last = (done.stderr.strip() or "no message").splitlines()[-1]
        raise Failed(f"{' '.join(command)} ended with {done.returncode}: {last}")
    return done.stdout


@check
def run(expected, params):
    """A whole training, the way a scheduler starts it."""
    if not expected:
        return "not asked for"
    with tempfile.TemporaryDirectory() as folder:
        call("run", *(f"--{name}={value}" for name, value in params["options"].items()), ARR_OUT=folder)
        result = json.loads(pathlib.Path(folder, "result.json").read_text())
    return f"{result['steps']} steps by {result['backend']}, loss {result['loss']:.5f}"


@check
def agent(expected, _params):
    """The agent imports these only when it meets a queue of that kind: a missing one would show with the first job."""
    if expected != "vertex":
        raise Failed(f"no such kind of agent: {expected}; there is vertex")
    if "launch agent" not in call("agent", "--help"):
        raise Failed("arr-run agent --help does not speak of a launch agent")
    for module in VERTEX:
        importlib.import_module(f"wandb.sdk.launch.{module}")
    return "arr-run agent --help; " + ", ".join(VERTEX)


main(options=["options"])
