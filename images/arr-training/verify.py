"""Check from inside what arr-training adds, by the tier's `params`.

    backend: c10                           what does the arithmetic
    fit: {weight: 3, bias: -2, within: 0.05}   of the program c10: train, and compare what was learned
    learn: {accuracy: 0.9}                 of the program torch: train half of the steps, go on from the checkpoint, and be judged
    options: {steps: 400}                  the options of that training
"""

import json
import pathlib
import subprocess
import sys
import tempfile

from imagetiers_checks import Failed, check, main

RESULT = {}


def train(*stages):
    """The last result of trainings with these options, one after the other in the same folder."""
    with tempfile.TemporaryDirectory() as folder:
        for options in stages:
            command = [sys.executable, "-m", "arr_train", "--out", folder]
            command += [f"--{name}={value}" for name, value in options.items()]
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            if done.returncode:
                last = (done.stderr.strip() or "no message").splitlines()[-1]
                raise Failed(f"the training ended with {done.returncode}: {last}")
        return json.loads(pathlib.Path(folder, "result.json").read_text())


def trained(params):
    """The result of the training that is asked for: every check looks at the same, for a start costs more than the steps."""
    if not RESULT:
        options = params["options"]
        half = {**options, "steps": options["steps"] // 2}
        if "learn" in params:
            RESULT.update(train(half, options))
        else:
            RESULT.update(train(options if "fit" in params else {**options, "steps": 1}))
    return RESULT


@check
def backend(expected, params):
    """It is the one that is named."""
    found = trained(params)["backend"]
    if found.split()[0] != expected:
        raise Failed(f"the backend is {found}, not {expected}")
    return found


@check
def fit(expected, params):
    """The line is found again."""
    result = trained(params)
    for name in ("weight", "bias"):
        if not abs(result[name] - expected[name]) <= expected["within"]:
            raise Failed(f"{name} is {result[name]:.4f}, not {expected[name]} within {expected['within']}")
    return f"y = {result['weight']:.4f} x + {result['bias']:.4f} after {result['steps']} steps"


@check
def learn(expected, params):
    """More is right than guessing would give, and nothing was lost when the training was interrupted half-way."""
    half = params["options"]["steps"] // 2
    result = trained(params)
    if result["first"] != half:
        raise Failed(f"it went on after step {result['first']}, not after {half}")
    if not result["accuracy"] >= expected["accuracy"]:
        raise Failed(f"the accuracy is {result['accuracy']:.2f}, not {expected['accuracy']} or more")
    return f"accuracy {result['accuracy']:.2f} after {half} and {params["options"]['steps'] - half} steps"


main(options=["options"])
