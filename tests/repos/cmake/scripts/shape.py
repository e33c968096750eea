"""How a table is written."""


def text(rows):
    return f"const int table[{len(rows)}] = {{{', '.join(map(str, rows))}}};\n"
