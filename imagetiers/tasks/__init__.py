"""The only code that knows doit."""
