"""generate.py TABLE NAME: write NAME.c and NAME.h."""

import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).parent))
import shape

rows = [int(line) for line in pathlib.Path(sys.argv[1]).read_text().split()]
pathlib.Path(f"{sys.argv[2]}.h").write_text(f"extern const int table[{len(rows)}];\n")
pathlib.Path(f"{sys.argv[2]}.c").write_text(shape.text(rows))
