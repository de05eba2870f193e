"""How long something takes, in words."""

import pytest

from apperate.kernel.dates import seconds_in_words


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0, "0 seconds"),
        (1, "1 second"),
        (59, "59 seconds"),
        (60, "1 minute"),
        (90, "90 seconds"),
        (120, "2 minutes"),
        (86_400, "1,440 minutes"),
    ],
)
def test_seconds_are_told_as_people_do(seconds: int, words: str) -> None:
    assert seconds_in_words(seconds) == words
