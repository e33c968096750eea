"""A pipeline to begin with: the files of `imagetiers init`, and their writing."""
