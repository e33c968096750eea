"""doit tui: the pipeline on the screen, and the commands that one would type. Needs textual (the extra `tui`)."""
