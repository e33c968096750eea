"""What an image consists of: its configuration, its layers, and the file system that they come to. Knows nothing of tiers."""
