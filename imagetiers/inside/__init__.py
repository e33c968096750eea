"""Programs that imagetiers brings into an image's container while it is checked: Python 3.8 and its standard library."""
