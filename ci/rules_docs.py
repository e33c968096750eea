#!/usr/bin/env python3
"""Write the list of docs/rules.md from the rules themselves.

python3 ci/rules_docs.py            writes it
python3 ci/rules_docs.py --check    exit code 1 if it is not what the rules say
"""

from __future__ import annotations

import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from imagetiers.rules.catalogue import RULES  # noqa: E402  the checkout's own

DOCUMENT = ROOT / "docs" / "rules.md"
MARK = "<!-- Below this line: ci/rules_docs.py, from imagetiers/rules. -->\n"


def document(old: str) -> str:
    """Return the document with the rules of today; what people wrote above the mark stays."""
    own, mark, _ = old.partition(MARK)
    lines = ["## The rules", "", "| rule | | finds | costs | instead |", "|---|---|---|---|---|"]
    for rule in RULES.values():
        cells = (f"`{rule.id}`", rule.severity.value, rule.title, rule.why, rule.fix)
        lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    return f"{own}{mark or MARK}\n" + "\n".join(lines) + "\n"


def main() -> int:
    """Run the command line; return the exit code."""
    old = DOCUMENT.read_text(encoding="utf-8")
    new = document(old)
    if sys.argv[1:] == ["--check"]:
        if new != old:
            sys.stderr.write("docs/rules.md is not what the rules say\n  hint: python3 ci/rules_docs.py writes it\n")
        return int(new != old)
    DOCUMENT.write_text(new, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
