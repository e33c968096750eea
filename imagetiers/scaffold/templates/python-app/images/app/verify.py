"""Checks of app, run inside the image. argv[1] is a JSON file: the tier's `verify:` of pipeline.yaml."""

import json
import subprocess
import sys

with open(sys.argv[1], encoding="utf-8") as file:
    expected = json.load(file)

said = subprocess.run([sys.executable, "-m", "app"], capture_output=True, text=True, check=True).stdout.strip()
wanted = expected["params"]["greeting"]
if said != wanted:
    print(f"FAIL the program says '{said}', not '{wanted}'")
    sys.exit(1)
print(f"ok   the program says '{said}'")
