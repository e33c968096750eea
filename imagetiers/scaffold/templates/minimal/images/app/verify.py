"""Checks of app, run inside the image. argv[1] is a JSON file: the tier's `verify:` of pipeline.yaml."""

import json
import subprocess
import sys

with open(sys.argv[1], encoding="utf-8") as file:
    expected = json.load(file)

said = subprocess.run(["hello"], capture_output=True, text=True, check=True).stdout.strip()
wanted = f"{expected['params']['greeting']}, world"
if said != wanted:
    print(f"FAIL hello says '{said}', not '{wanted}'")
    sys.exit(1)
print(f"ok   hello says '{said}'")
