"""Whether an image is what its tiers have declared: pure functions of what was read of it."""
