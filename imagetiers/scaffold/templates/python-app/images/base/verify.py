"""Checks of base, run inside the image and again in each tier that is built from it. Prints a line for each check.

argv[1] is a JSON file: the tier's `verify:` of pipeline.yaml.
"""

import json
import os
import shutil
import sys

with open(sys.argv[1], encoding="utf-8") as file:
    expected = json.load(file)

failed = False
for command in expected.get("commands", []):
    path = shutil.which(command)
    failed = failed or path is None
    print(f"ok   {command} is {path}" if path else f"FAIL {command} is not on the PATH")

if os.geteuid() == 0:
    failed = True
    print("FAIL programs run as root")
else:
    print(f"ok   programs run as user {os.geteuid()}")

sys.exit(1 if failed else 0)
