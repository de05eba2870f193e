"""Conditions on the values of records: `where` and `subattribute` as a tree of comparisons. Pure.

    parse_where("close gt 100 and ticker in (A, B)", schema) -> Condition | str     a str describes the fault
    parse_subattribute("sector|IT,name~X", schema) -> Condition | str

    condition  = alternative, { "or", alternative }
    alternative = part, { "and", part }
    part       = [ "not" ], ( "(", condition, ")" | comparison )
    comparison = name, ( "eq" | "ne" | "gt" | "ge" | "lt" | "le" ), value
               | name, "in", "(", value, { ",", value }, ")"
               | name, ( "eq" | "ne" ), "null"
    name       = a bare word, or any text in double quotes
    value      = a bare word, or any text in single quotes; a quote inside is written twice

Keywords may have any case. A comparison with a property that is null or absent is false, so `ne` is true
for it: `ne` is exactly "not eq". Values are typed by the schema; they are bound to the statement as
parameters, never part of its text. Source: docs/query-parameters.md.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from typing import Any, NamedTuple

from apperate.kernel.json_text import shown
from apperate.kernel.ranges import DATES_NEEDED, Span, parse_day_or_moment
from datasets.records.checking import NUMBER_MAX
from datasets.records.schema import PropertyType, Schema, is_storable

TEXT_CHARS_MAX = 4_000
COMPARISONS_MAX = 50
VALUES_MAX = 200
TOKENS_MAX = 800
DEPTH_MAX = 20
OPERATORS = ("eq", "ne", "gt", "ge", "lt", "le", "in")
WHERE_NEEDED = "comparisons like close gt 100 and ticker in (A, B)"
SUBATTRIBUTE_NEEDED = "name|value or name~value, joined by commas"

_TOKENS = re.compile(
    r"""\s*(?:(?P<mark>[(),])|(?P<name>"(?:[^"]|"")*")|(?P<text>'(?:[^']|'')*')|(?P<word>[^\s(),'"]+))"""
)
_NUMBER = re.compile(r"-?[0-9]{1,400}(?:\.[0-9]{1,400})?(?:[eE][+-]?[0-9]{1,3})?")


@dataclass(frozen=True, slots=True)
class Comparison:
    """One property against values of its type: Decimal, str, bool, or a Span of time for dates.

    `operator` is one of OPERATORS except `ne`, which is Not(eq); `values` is empty for a null test.
    """

    name: str
    kind: PropertyType
    operator: str
    values: tuple[Any, ...]


@dataclass(frozen=True, slots=True)
class Not:
    part: "Condition"


@dataclass(frozen=True, slots=True)
class All:
    """True when every part is."""

    parts: tuple["Condition", ...]


@dataclass(frozen=True, slots=True)
class AnyOf:
    """True when any part is."""

    parts: tuple["Condition", ...]


Condition = Comparison | Not | All | AnyOf


class _Token(NamedTuple):
    kind: str  # mark, name, text or word
    text: str


class _Fault(Exception):
    """What is wrong with a condition, in words; never leaves this module."""


def parse_where(text: str, schema: Schema) -> Condition | str:
    """The tree of a `where`, or a sentence saying what is wrong with it."""
    try:
        return _Parser(_tokens(text), schema).whole()
    except _Fault as fault:
        return str(fault)


def parse_subattribute(text: str, schema: Schema) -> Condition | str:
    """The tree of a `subattribute`: `name|value` means equal, `name~value` not equal, a comma means and."""
    parts: list[Condition] = []
    if len(text) > TEXT_CHARS_MAX:
        return f"at most {TEXT_CHARS_MAX:,} characters"
    for written in filter(None, text.split(",")):
        found = re.match(r"([^|~]+)([|~])(.*)", written, re.DOTALL)
        if found is None:
            return f"{SUBATTRIBUTE_NEEDED}, but came {shown(written)}"
        try:
            equal = _compared(found[1], "eq", [_Token("word", found[3])], schema)
        except _Fault as fault:
            return str(fault)
        parts.append(equal if found[2] == "|" else Not(equal))
    if not 1 <= len(parts) <= COMPARISONS_MAX:
        return f"1 to {COMPARISONS_MAX} comparisons"
    return All(tuple(parts))


def _tokens(text: str) -> list[_Token]:
    if len(text) > TEXT_CHARS_MAX:
        raise _Fault(f"at most {TEXT_CHARS_MAX:,} characters")
    tokens: list[_Token] = []
    at, text = 0, text.rstrip()
    while at < len(text):
        found = _TOKENS.match(text, at)
        if found is None:
            raise _Fault(f"a quote that is closed, after {shown(text[max(0, at - 20) : at])}")
        kind = str(found.lastgroup)
        raw = found[kind]
        if kind in ("name", "text"):
            raw = raw[1:-1].replace(raw[0] * 2, raw[0])
        tokens.append(_Token(kind, raw))
        if len(tokens) > TOKENS_MAX:
            raise _Fault(f"at most {TOKENS_MAX} words, values and marks in all")
        at = found.end()
    return tokens


class _Parser:
    """Recursive descent over the tokens, bounded by DEPTH_MAX and COMPARISONS_MAX."""

    def __init__(self, tokens: Sequence[_Token], schema: Schema) -> None:
        self.tokens, self.schema = tokens, schema
        self.at = 0
        self.comparisons = 0

    def whole(self) -> Condition:
        condition = self.any_of(0)
        if self.at < len(self.tokens):
            raise _Fault(f"and or or before {shown(self.tokens[self.at].text)}")
        return condition

    def any_of(self, depth: int) -> Condition:
        if depth > DEPTH_MAX:
            raise _Fault(f"at most {DEPTH_MAX} levels of parentheses")
        parts = [self.all_of(depth)]
        while self.takes_word("or"):
            parts.append(self.all_of(depth))
        return parts[0] if len(parts) == 1 else AnyOf(tuple(parts))

    def all_of(self, depth: int) -> Condition:
        parts = [self.part(depth)]
        while self.takes_word("and"):
            parts.append(self.part(depth))
        return parts[0] if len(parts) == 1 else All(tuple(parts))

    def part(self, depth: int) -> Condition:
        if self.takes_word("not"):
            if depth >= DEPTH_MAX:
                raise _Fault(f"at most {DEPTH_MAX} levels of not and parentheses")
            return Not(self.part(depth + 1))
        if self.takes_mark("("):
            condition = self.any_of(depth + 1)
            self.needs_mark(")")
            return condition
        return self.comparison()

    def comparison(self) -> Condition:
        self.comparisons += 1
        if self.comparisons > COMPARISONS_MAX:
            raise _Fault(f"at most {COMPARISONS_MAX} comparisons")
        name = self.next("the name of a property", "word", "name").text
        word = self.next(f"one of {', '.join(OPERATORS)} after {shown(name)}", "word").text
        operator = word.lower()
        if operator not in OPERATORS:
            raise _Fault(f"one of {', '.join(OPERATORS)} after {shown(name)}, but came {shown(word)}")
        if operator != "in":
            return _compared(name, operator, [self.value(name)], self.schema)
        self.needs_mark("(")
        values = [self.value(name)]
        while self.takes_mark(","):
            values.append(self.value(name))
        self.needs_mark(")")
        if len(values) > VALUES_MAX:
            raise _Fault(f"at most {VALUES_MAX} values in one list")
        return _compared(name, "in", values, self.schema)

    def value(self, name: str) -> _Token:
        # A long condition is mostly values, so the fault's wording is not built for each of them.
        if self.at < len(self.tokens) and self.tokens[self.at].kind in ("word", "text"):
            self.at += 1
            return self.tokens[self.at - 1]
        return self.next(f"a value for {shown(name)}, text with spaces in single quotes", "word", "text")

    def next(self, needed: str, *kinds: str) -> _Token:
        if self.at >= len(self.tokens) or self.tokens[self.at].kind not in kinds:
            came = shown(self.tokens[self.at].text) if self.at < len(self.tokens) else "the end"
            raise _Fault(f"{needed}, but came {came}")
        self.at += 1
        return self.tokens[self.at - 1]

    def takes_word(self, word: str) -> bool:
        return self._takes("word", word)

    def takes_mark(self, mark: str) -> bool:
        return self._takes("mark", mark)

    def _takes(self, kind: str, text: str) -> bool:
        if self.at < len(self.tokens):
            token = self.tokens[self.at]
            if token.kind == kind and token.text.lower() == text:
                self.at += 1
                return True
        return False

    def needs_mark(self, mark: str) -> None:
        self.next(f"the mark {mark}", "mark") if self._is_mark(mark) else self._wrong(mark)

    def _is_mark(self, mark: str) -> bool:
        return self.at < len(self.tokens) and self.tokens[self.at] == _Token("mark", mark)

    def _wrong(self, mark: str) -> None:
        came = shown(self.tokens[self.at].text) if self.at < len(self.tokens) else "the end"
        raise _Fault(f"the mark {mark}, but came {came}")


def _compared(name: str, operator: str, written: Sequence[_Token], schema: Schema) -> Condition:
    """A comparison whose values have the property's type."""
    found = schema.get(name)
    if found is None:
        raise _Fault(f"names of properties of this dataset, but came {shown(name)}")
    if len(written) == 1 and written[0].kind == "word" and written[0].text.lower() == "null":
        if operator not in ("eq", "ne"):
            raise _Fault(f"{shown(name)} eq null or ne null")
        is_null = Comparison(name, found.type, "eq", ())
        return is_null if operator == "eq" else Not(is_null)
    values = tuple(_typed(name, found.type, token) for token in written)
    kind = found.type
    if kind is PropertyType.ANY:
        # A bare number means a number; anything else is compared as text.
        numbers = all(isinstance(value, Decimal) for value in values)
        kind = PropertyType.NUMBER if numbers else PropertyType.STRING
        values = values if numbers else tuple(token.text for token in written)
    if kind is PropertyType.BOOLEAN and operator not in ("eq", "ne", "in"):
        raise _Fault(f"eq or ne for {shown(name)}, which is true or false")
    if operator == "ne":
        return Not(Comparison(name, kind, "eq", values))
    return Comparison(name, kind, operator, values)


def _typed(name: str, kind: PropertyType, token: _Token) -> Decimal | str | bool | Span:
    text = token.text
    match kind:
        case PropertyType.NUMBER | PropertyType.INTEGER:
            if (number := _number(text)) is None:
                raise _Fault(f"a number for {shown(name)}, but came {shown(text)}")
            return number
        case PropertyType.BOOLEAN:
            if text.lower() not in ("true", "false"):
                raise _Fault(f"true or false for {shown(name)}, but came {shown(text)}")
            return text.lower() == "true"
        case PropertyType.DATE:
            span = parse_day_or_moment(text)
            if span is None:
                raise _Fault(f"{DATES_NEEDED} for {shown(name)}, but came {shown(text)}")
            return span
        case PropertyType.OBJECT | PropertyType.ARRAY:
            raise _Fault(f"eq null or ne null for {shown(name)}, which is an {kind.value}")
    if not is_storable(text):
        raise _Fault(f"text without NUL for {shown(name)}")
    if kind is PropertyType.ANY and token.kind == "word" and (number := _number(text)) is not None:
        return number
    return text


def _number(text: str) -> Decimal | None:
    if not _NUMBER.fullmatch(text):
        return None
    try:
        number = Decimal(text)
    except InvalidOperation:
        return None
    return number if number.copy_abs() <= NUMBER_MAX else None
