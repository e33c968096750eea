"""Pure: keys, the plan, what must be done and why, what it will take."""
