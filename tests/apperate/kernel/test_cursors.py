"""Cursors come from outside: what is damaged, too long, or sealed with another key is no cursor."""

import base64
import os
from typing import Any

import pytest

from apperate.kernel import cursors

KEY = os.urandom(32)
DEEP = base64.urlsafe_b64encode(b"[" * 5_000).decode()
PARTS = ["trash", "2026-05-20T12:00:00+00:00", 7]


@pytest.mark.parametrize("key", [b"", KEY], ids=["plain", "encrypted"])
def test_what_is_written_is_read_and_the_same_parts_give_the_same_text(key: bytes) -> None:
    text = cursors.write(PARTS, key=key)

    assert cursors.read(text, key=key) == PARTS
    assert cursors.write(PARTS, key=key) == text
    assert "=" not in text and "/" not in text and "+" not in text


def test_an_encrypted_cursor_tells_neither_its_parts_nor_their_length() -> None:
    short, long = cursors.write(["a"], key=KEY), cursors.write(["a" * 90], key=KEY)

    assert len(short) == len(long)
    assert b"aaa" not in base64.urlsafe_b64decode(long + "==")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "x",
        "%%%",
        "é",
        "bnVsbA",
        "eyJhIjoxfQ",
        "A" * 9_000,
        base64.urlsafe_b64encode(b"[" * 5_000).decode(),
    ],
    ids=["empty", "one letter", "no base64", "no ASCII", "null", "an object", "too long", "deep"],
)
def test_what_is_no_cursor_is_none(text: str) -> None:
    assert cursors.read(text) is None
    assert cursors.read(text, key=KEY) is None


@pytest.mark.parametrize(
    ("written", "read"), [(b"", KEY), (KEY, b""), (KEY, bytes(32))], ids=["none", "some", "other"]
)
def test_another_key_reads_nothing(written: Any, read: Any) -> None:
    assert cursors.read(cursors.write(PARTS, key=written), key=read) is None
