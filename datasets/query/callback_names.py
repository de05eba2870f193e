"""Which functions a JSONP answer may call.

A page that loads scripts from this server runs what the answer calls, so the name must be a function of
the page itself: not reached through the browser's objects, and not one that runs its argument as code.
"""

import re

CALLBACK_CHARS_MAX = 100
PARTS_MAX = 3
CALLBACK_NEEDED = (
    f"the name of a function of the page, at most {PARTS_MAX} parts of letters, digits, _ and $ joined by "
    f"dots and {CALLBACK_CHARS_MAX} characters, like app.show; no reserved word, no object of the browser"
)

_PART = re.compile(r"[A-Za-z_$][A-Za-z0-9_$]*")
# ECMA-262 section 12.7.2, including those of strict mode and the literals.
RESERVED = frozenset({
    "arguments", "as", "async", "await", "break", "case", "catch", "class", "const", "continue",
    "debugger", "default", "delete", "do", "else", "enum", "export", "extends", "false", "finally",
    "for", "from", "function", "get", "if", "implements", "import", "in", "instanceof", "interface",
    "let", "new", "null", "of", "package", "private", "protected", "public", "return", "set", "static",
    "super", "switch", "this", "throw", "true", "try", "typeof", "undefined", "var", "void", "while",
    "with", "yield",
})  # fmt: skip
REACHES_CODE = frozenset({
    "Function", "constructor", "eval", "execScript", "importScripts", "prototype", "setImmediate",
    "setInterval", "setTimeout", "apply", "bind", "call", "write", "writeln",
})  # fmt: skip
OF_THE_BROWSER = frozenset({
    "Reflect", "document", "frames", "globalThis", "history", "location", "navigator", "opener",
    "parent", "self", "top", "window",
})  # fmt: skip
REFUSED = RESERVED | REACHES_CODE | OF_THE_BROWSER


def parse_callback(text: str) -> str | None:
    """The name, if an answer may call it. A part that begins with two underscores may be a setter."""
    parts = text.split(".")
    is_one = len(text) <= CALLBACK_CHARS_MAX and len(parts) <= PARTS_MAX
    if is_one and all(_PART.fullmatch(part) for part in parts):
        return None if any(part in REFUSED or part.startswith("__") for part in parts) else text
    return None
