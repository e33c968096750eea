"""What the repository holds, read once: the tiers' files and manifests."""
