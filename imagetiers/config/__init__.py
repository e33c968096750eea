"""What the user wrote: pipeline.yaml with its variants, its lock file, and what both mean."""
