"""Checks of dependencies, run inside the image. argv[1] is a JSON file: the tier's `verify:` of pipeline.yaml."""

import importlib.metadata
import json
import subprocess
import sys

with open(sys.argv[1], encoding="utf-8") as file:
    expected = json.load(file)

failed = False
for name, version in expected.get("versions", {}).items():
    found = importlib.metadata.version(name)
    failed = failed or found != version
    print(f"ok   {name} {found}" if found == version else f"FAIL {name} is {found}, not {version}")

checked = subprocess.run(["pip", "check"], capture_output=True, text=True, check=False)
failed = failed or checked.returncode != 0
print(f"{'FAIL' if checked.returncode else 'ok  '} pip check: {' '.join(checked.stdout.split())}")

sys.exit(1 if failed else 0)
