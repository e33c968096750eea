"""`python3 -m app`: put your program here."""

print("hello, world")
