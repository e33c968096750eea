"""The folder that CMake and ninja build in, kept from one compile to the next: the program in the compile's container.

It decides whether a kept folder may be used, puts it where it was, watches who reads which source, and packs what a compile
has made. Standard library only, and Python from 3.10 on: it runs in whatever image compiles. `docs/build-folder.md` has
the rules.
"""
