"""A ccache directory in a store: pushed, pulled, pruned. Needs nothing but a store."""
