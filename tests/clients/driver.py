"""Runs calls of the Python clients as a program of a user would: a line of JSON with code in, one out.

It runs in the environment of the clients, which has none of this project's packages.
"""

import json
import sys
from typing import Any

NAMES: dict[str, Any] = {}


def run(code: str) -> Any:
    """The value of an expression; None of statements."""
    try:
        compiled = compile(code, "<call>", "eval")
    except SyntaxError:
        exec(code, NAMES)  # noqa: S102  The code is the call that is tested.
        return None
    return eval(compiled, NAMES)  # noqa: S307  The same.


def readable(value: Any) -> Any:
    """A data frame by column and row; whatever is no data as its text."""
    return json.loads(value.to_json()) if hasattr(value, "to_json") else str(value)


if __name__ == "__main__":
    out, sys.stdout = sys.stdout, sys.stderr
    for line in sys.stdin:
        try:
            outcome = {"value": run(json.loads(line)["code"])}
        except Exception as error:
            outcome = {"error": f"{type(error).__name__}: {error}"}
        print(json.dumps(outcome, default=readable), file=out, flush=True)
