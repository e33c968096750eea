"""The bytes: ccache's entries, our packs, segments and heads."""
