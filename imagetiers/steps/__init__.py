"""One verb a file: what imagetiers does to the world, through the ports only."""
