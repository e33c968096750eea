"""stamp.py FILE STAMP: write how long FILE is, whether that is new or not."""

import pathlib
import sys

pathlib.Path(sys.argv[2]).write_text(f"{pathlib.Path(sys.argv[1]).stat().st_size}\n")
