"""Check from inside what arr-training adds.

    python3 verify.py EXPECTATIONS.json

EXPECTATIONS.json holds the tier's `verify:` of pipeline.yaml; only what its `params` name is checked.

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


class Failed(Exception):
    """What is wrong, in one line."""


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


def check_backend(expected, options):
    """It is the one that is named."""
    found = train({**options, "steps": 1})["backend"]
    if found.split()[0] != expected:
        raise Failed(f"the backend is {found}, not {expected}")
    return found


def check_fit(expected, options):
    """The line is found again."""
    result = train(options)
    for name in ("weight", "bias"):
        if not abs(result[name] - expected[name]) <= expected["within"]:
            raise Failed(f"{name} is {result[name]:.4f}, not {expected[name]} within {expected['within']}")
    return f"y = {result['weight']:.4f} x + {result['bias']:.4f} after {result['steps']} steps"


def check_learn(expected, options):
    """More is right than guessing would give, and nothing was lost when the training was interrupted half-way."""
    half = options["steps"] // 2
    result = train({**options, "steps": half}, options)
    if result["first"] != half:
        raise Failed(f"it went on after step {result['first']}, not after {half}")
    if not result["accuracy"] >= expected["accuracy"]:
        raise Failed(f"the accuracy is {result['accuracy']:.2f}, not {expected['accuracy']} or more")
    return f"accuracy {result['accuracy']:.2f} after {half} and {options['steps'] - half} steps"


def check_unknown(name):
    """A misspelt expectation must not pass for one that holds."""
    raise Failed(f"{name} is no check of this tier; there are options, " + ", ".join(CHECKS))


CHECKS = {"backend": check_backend, "fit": check_fit, "learn": check_learn}


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
    passed = [run(n, CHECKS[n], v, options) if n in CHECKS else run(n, check_unknown, n) for n, v in wanted.items()]
    return 0 if all(passed) else 1


sys.exit(main())
