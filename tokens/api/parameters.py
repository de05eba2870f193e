"""Every parameter of the Tokens API's query strings. Pure. Source: docs/api.md, Tokens."""

from apperate.http.parameters import (
    A_FLAG,
    CURSOR,
    FLAG,
    LIMIT,
    RANGE,
    TEXT,
    Parameter,
    one_of,
    parse_flag,
)
from tokens.rules.vocabulary import USAGE_BY

TRASH = Parameter(
    "trash", ("tokens",), "the tokens in the trash instead of the others", "true", A_FLAG, parse_flag, FLAG
)  # fmt: skip
BY = Parameter(
    "by", ("usage",), "what a row stands for beside its day", "dataset",
    "one of " + ", ".join(USAGE_BY), one_of(*USAGE_BY), TEXT | {"enum": list(USAGE_BY)},
)  # fmt: skip

TOKENS = {one.name: one for one in (LIMIT, CURSOR, TRASH)}
USAGE = {one.name: one for one in (RANGE, BY)}
