"""S22: no pattern of the code takes more than linear time, whatever text it meets.

Each is given the texts that its own structure is weakest against: for every part that may repeat, what leads
to it, that part many thousand times, and then what no pattern goes on with. One that tries all ways to divide
such a text takes minutes; a sound one takes some milliseconds.
"""

import ast
import re
import time
from collections.abc import Iterator
from dataclasses import dataclass
from re import _constants as codes  # type: ignore[attr-defined]
from re import _parser as parser  # type: ignore[attr-defined]
from typing import Any

import pytest

from tests.project.test_secret_rules import SOURCES

METHODS = {"match", "fullmatch", "search", "sub", "subn", "split", "findall", "finditer"}
# Longer than a target or the headers may be.
CHARACTERS = 33_000
REPEATS_MIN = 20
SECONDS_MAX = 2.0
REPEATS = (codes.MAX_REPEAT, codes.MIN_REPEAT, codes.POSSESSIVE_REPEAT)
# Ends a text so that it does not match: not in any class of characters that these patterns ask for.
NO_MORE = "\uffff"


@dataclass(frozen=True)
class Use:
    """A pattern of the code, and how it is asked."""

    file: str
    pattern: re.Pattern[Any]
    method: str

    def __str__(self) -> str:
        return f"{self.file}: {self.pattern.pattern!r:.60}.{self.method}"


def text_of(node: ast.expr, names: dict[str, ast.expr]) -> Any:
    """The value of an expression made of literals and of constants of its file."""
    if isinstance(node, ast.Name):
        return text_of(names[node.id], names)
    if isinstance(node, ast.BinOp):
        return text_of(node.left, names) + text_of(node.right, names)
    if isinstance(node, ast.JoinedStr):
        return "".join(
            str(text_of(part.value if isinstance(part, ast.FormattedValue) else part, names))
            for part in node.values
        )
    return ast.literal_eval(node)


def uses_of(file: str, tree: ast.Module) -> Iterator[Use]:
    names = {
        node.targets[0].id: node.value
        for node in tree.body
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name)
    }
    compiled: dict[str, re.Pattern[Any]] = {}
    calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call)]
    for node in calls:
        asked = ast.unparse(node.func)
        if asked == "re.compile" or (asked.startswith("re.") and asked[3:] in METHODS):
            flags = [ast.unparse(one) for one in [*node.args[1:], *(word.value for word in node.keywords)]]
            flags = [flag for flag in flags if flag.startswith("re.")]
            number = eval(" | ".join(flags) or "0", {"re": re})  # noqa: S307  The code's own flags.
            pattern = re.compile(text_of(node.args[0], names), number)
            if asked == "re.compile":
                owner = [name for name, value in names.items() if value is node]
                compiled[owner[0] if owner else ast.unparse(node)] = pattern
            else:
                yield Use(file, pattern, asked[3:])
    text = ast.unparse(tree)
    for name, pattern in compiled.items():
        methods = set(re.findall(rf"\b{re.escape(name)}\.(\w+)\(", text)) & METHODS
        yield from (Use(file, pattern, method) for method in methods or {"search"})


USES = [use for file, tree in SOURCES.items() for use in uses_of(file, tree)]


def example(tree: Any) -> str:
    """A short text that a parsed pattern matches, or nearly."""
    return "".join(one_of(*item) for item in tree)


def one_of(code: Any, argument: Any) -> str:
    if code in (codes.LITERAL, codes.NOT_LITERAL):
        return chr(argument) if code is codes.LITERAL else ("a" if argument != ord("a") else "b")
    if code is codes.ANY:
        return "a"
    if code is codes.IN:
        return from_class(argument)
    if code in REPEATS:
        low, _, inner = argument
        return example(inner) * max(low, 1)
    if code is codes.SUBPATTERN:
        return example(argument[3])
    if code is codes.ATOMIC_GROUP:
        return example(argument)
    return example(argument[1][0]) if code is codes.BRANCH else ""


def from_class(items: Any) -> str:
    for code, argument in items:
        if code is codes.LITERAL:
            return chr(argument)
        if code is codes.RANGE:
            return chr(argument[0])
        if code is codes.CATEGORY:
            return {codes.CATEGORY_DIGIT: "1", codes.CATEGORY_SPACE: " "}.get(argument, "a")
    return "a" if items[0][0] is not codes.NEGATE or (codes.LITERAL, ord("a")) not in items else "b"


def pumped(tree: Any, before: str = "") -> Iterator[str]:
    """For every part that may repeat often: what leads to it, and that part again and again."""
    for code, argument in tree:
        if code in REPEATS:
            low, high, inner = argument
            if high >= REPEATS_MIN:
                part = example(inner) or "a"
                yield before + part * (CHARACTERS // len(part))
            yield from pumped(inner, before)
        elif code is codes.SUBPATTERN:
            yield from pumped(argument[3], before)
        elif code is codes.ATOMIC_GROUP:
            yield from pumped(argument, before)
        elif code is codes.BRANCH:
            for branch in argument[1]:
                yield from pumped(branch, before)
        before += one_of(code, argument)


def hardest(pattern: re.Pattern[Any]) -> set[Any]:
    """The texts to try; bytes for a pattern of bytes."""
    is_bytes = isinstance(pattern.pattern, bytes)
    source = pattern.pattern.decode("latin-1") if is_bytes else pattern.pattern
    found = set(pumped(parser.parse(source, pattern.flags & ~re.UNICODE if is_bytes else pattern.flags)))
    texts = {text + end for text in found for end in ("", NO_MORE)}
    return {text.replace(NO_MORE, "\xff").encode("latin-1") for text in texts} if is_bytes else texts


def seconds(use: Use, text: Any) -> float:
    began = time.thread_time()
    arguments = (type(text)(), text) if use.method in {"sub", "subn"} else (text,)
    found = getattr(use.pattern, use.method)(*arguments)
    if use.method == "finditer":
        list(found)
    return time.thread_time() - began


@pytest.mark.check("S22")
@pytest.mark.parametrize("use", USES, ids=str)
def test_a_pattern_takes_linear_time_on_what_it_is_weakest_against(use: Use) -> None:
    taken = {text[:60]: seconds(use, text) for text in hardest(use.pattern)}

    assert {text: spent for text, spent in taken.items() if spent > SECONDS_MAX} == {}


@pytest.mark.check("S22")
def test_every_pattern_of_the_code_is_tried() -> None:
    written = sum(ast.unparse(tree).count("re.compile(") for tree in SOURCES.values())

    assert len(USES) > 30 and len({use.pattern for use in USES}) >= written - 3


@pytest.mark.check("S22")
@pytest.mark.parametrize(
    ("source", "count"), [("(?:a|aa)+$", 11), ("(?:a+)+b", 9), ("a*a*b", 100), (r"\s*,?\s*x", 100)]
)
def test_a_pattern_that_backtracks_is_found(source: str, count: int) -> None:
    """With few characters: with as many as above some of these would take for ever."""
    times = []
    for characters in (count, 2 * count):
        text = max(pumped(parser.parse(source)), key=len)[:characters] + NO_MORE
        times.append(min(seconds(Use("", re.compile(source), "search"), text) for _ in range(3)))

    assert times[1] > 3 * times[0]
