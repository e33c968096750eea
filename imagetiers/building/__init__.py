"""What compiles and image builds have in common."""
