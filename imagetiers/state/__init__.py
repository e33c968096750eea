"""What is there already, and what was measured."""
