"""What is in binaries: pure readers of their formats."""
