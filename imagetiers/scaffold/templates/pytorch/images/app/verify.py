"""Checks of app, run inside the image. argv[1] is a JSON file: the tier's `verify:` of pipeline.yaml."""

import json
import shutil
import subprocess
import sys

with open(sys.argv[1], encoding="utf-8") as file:
    expected = json.load(file)

failed = False
for command in expected.get("commands", []):
    path = shutil.which(command)
    failed = failed or path is None
    print(f"ok   {command} is {path}" if path else f"FAIL {command} is not on the PATH")

said = subprocess.run([sys.executable, "-m", "app"], capture_output=True, text=True, check=True).stdout.strip()
failed = failed or "torch" not in said
print(f"ok   the program finds {said}" if "torch" in said else "FAIL the program finds no PyTorch")

sys.exit(1 if failed else 0)
