"""Text in CSV cells: none that we write starts a formula, and reading it back gives the same text. Pure.

A spreadsheet runs a cell that begins with one of = + - @ or some control characters. Such text gets a `'`
in front; so does text with only `'` before such a character, or unescaping would remove one too many.
"""

FORMULA_STARTS = frozenset("=+-@\t\r\n")


def escape_cell(text: str) -> str:
    """The text as a cell that no spreadsheet takes for a formula."""
    return f"'{text}" if starts_formula(text) else text


def unescape_cell(cell: str) -> str:
    """The text that escape_cell() made into this cell."""
    return cell[1:] if cell[:1] == "'" and starts_formula(cell) else cell


def starts_formula(text: str) -> bool:
    """Whether the first character, apart from any `'`, is one that starts a formula."""
    first = text[:1]
    return first in FORMULA_STARTS or (first == "'" and text.lstrip("'")[:1] in FORMULA_STARTS)
