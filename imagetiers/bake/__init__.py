"""Docker's bake files: reading them, and porting them to a pipeline. Pure, but for the files that are looked at."""
