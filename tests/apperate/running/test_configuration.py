"""Values from the environment: understood, or refused in one sentence that says what would be right."""

from pathlib import Path

import pytest
from django.core.exceptions import ImproperlyConfigured

from apperate.running.configuration import URL_FILE, choice, flag, integer, public_url, secret_key


@pytest.mark.parametrize(
    ("text", "value"), [("1", True), ("yes", True), ("ON", True), ("0", False), ("false", False), ("", False)]
)
def test_flag_understands(text: str, value: bool) -> None:
    assert flag({"NAME": text}, "NAME", default=not value) is value


def test_flag_has_a_default_and_refuses_other_words() -> None:
    assert flag({}, "NAME", default=True) is True
    with pytest.raises(ImproperlyConfigured, match="NAME='maybe' is neither yes nor no: use 1 or 0"):
        flag({"NAME": "maybe"}, "NAME", default=True)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("abc", "not a whole number from 1 to 9"),
        ("0", "out of range"),
        ("10", "out of range"),
        ("1.5", "not a whole"),
    ],
)
def test_integer_refuses(text: str, said: str) -> None:
    with pytest.raises(ImproperlyConfigured, match=said):
        integer({"NAME": text}, "NAME", default=1, low=1, high=9)


def test_choice_understands_its_words_and_refuses_others() -> None:
    among = ("database", "folder")
    assert choice({}, "NAME", default="folder", among=among) == "folder"
    assert choice({"NAME": " "}, "NAME", default="folder", among=among) == "folder"
    assert choice({"NAME": "database"}, "NAME", default="folder", among=among) == "database"
    with pytest.raises(ImproperlyConfigured, match="NAME='nfs' is not known: use database or folder"):
        choice({"NAME": "nfs"}, "NAME", default="folder", among=among)


def test_integer_understands() -> None:
    assert integer({"NAME": "7"}, "NAME", default=1, low=1, high=9) == 7
    assert integer({"NAME": ""}, "NAME", default=1, low=1, high=9) == 1


@pytest.mark.parametrize(
    ("environ", "url"),
    [
        ({}, "http://127.0.0.1:8000"),
        ({"PORT": "9000"}, "http://127.0.0.1:9000"),
        ({"HOST": "0.0.0.0", "PORT": "9000"}, "http://127.0.0.1:9000"),  # noqa: S104
        ({"HOST": "::1"}, "http://[::1]:8000"),
        ({"APPERATE_PUBLIC_URL": "https://data.example.com/"}, "https://data.example.com"),
    ],
)
def test_public_url(environ: dict[str, str], url: str, tmp_path: Path) -> None:
    assert public_url(environ, tmp_path) == url


def test_public_url_of_the_running_server_is_known_to_other_commands(tmp_path: Path) -> None:
    (tmp_path / URL_FILE).write_text("http://127.0.0.1:8765")

    assert public_url({}, tmp_path) == "http://127.0.0.1:8765"
    assert public_url({"PORT": "9000"}, tmp_path) == "http://127.0.0.1:9000"


@pytest.mark.parametrize("text", ["data.example.com", "ftp://x", "https://", "https://host/path"])
def test_public_url_refuses(text: str, tmp_path: Path) -> None:
    with pytest.raises(ImproperlyConfigured, match="use https://host or http://host:port"):
        public_url({"APPERATE_PUBLIC_URL": text}, tmp_path)


def test_the_session_key_is_made_once_and_kept_private(tmp_path: Path) -> None:
    first = secret_key({}, tmp_path)

    assert secret_key({}, tmp_path) == first
    assert len(first) > 50
    assert (tmp_path / "session.key").stat().st_mode & 0o777 == 0o600
    assert secret_key({"APPERATE_SECRET_KEY": "given"}, tmp_path) == "given"


def test_a_session_key_that_cannot_be_made_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")

    with pytest.raises(ImproperlyConfigured, match="can be neither read nor made: Not a directory"):
        secret_key({}, tmp_path / "file" / "data")
