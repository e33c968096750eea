"""The training program: a small vision model learns to tell shapes apart, from images that it makes itself."""
