"""`python3 -m app`: put your program here."""

from importlib.metadata import distributions

found = {each.name: each.version for each in distributions() if each.name.startswith(("torch", "pytorch"))}
print(", ".join(f"{name} {found[name]}" for name in sorted(found)))
