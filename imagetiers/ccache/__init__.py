"""A ccache directory as immutable packs, index segments and one head: formats and rules (pure)."""
