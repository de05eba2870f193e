"""A JSONP answer calls a function of the page's own, and no other."""

import pytest

from datasets.query.callback_names import CALLBACK_NEEDED, REFUSED, parse_callback


@pytest.mark.parametrize(
    "name",
    [
        "show", "app.show", "a.b.c", "$", "_", "jQuery1113024_1700000000000", "$.my_app.on_data2", "Callback",
        "evaluate", "constructors", "newest", "x" * 100, "angular.callbacks._0",
    ],
)  # fmt: skip
def test_a_function_of_the_page_is_called(name: str) -> None:
    assert parse_callback(name) == name


@pytest.mark.parametrize(
    "name",
    [
        "constructor.constructor", "show.constructor", "a.prototype.b", "__proto__.a", "a.__defineSetter__",
        "eval", "Function", "a.eval", "setTimeout", "window.eval", "document.write", "location.assign",
        "opener.show", "a.b.call", "new", "this.a", "null", "import",
        "a.b.c.d", "a..b", ".a", "a.", "", "1a", "a.1", "a b", "a[0]", "a;b", "alert(1)", "a\n", "a/**/", "é",
        "\uff41", "a\u2028", "a-b", "x" * 101, "a." * 50 + "a",
    ],
    ids=ascii,
)  # fmt: skip
def test_no_other_name_is_called(name: str) -> None:
    assert parse_callback(name) is None


@pytest.mark.parametrize("word", sorted(REFUSED))
def test_a_word_is_refused_as_any_part(word: str) -> None:
    assert [parse_callback(name) for name in (word, f"{word}.a", f"a.{word}", f"a.{word}.b")] == [None] * 4


def test_what_is_needed_names_a_right_one() -> None:
    example = CALLBACK_NEEDED.partition(" like ")[2].partition(";")[0]

    assert parse_callback(example) == "app.show"
