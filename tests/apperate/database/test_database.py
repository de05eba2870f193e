"""The database settings come from the environment, start nothing, and refuse what cannot be right."""

from pathlib import Path

import pytest
from django.core.exceptions import ImproperlyConfigured
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from apperate.database.settings import databases

HOME = Path("/srv/apperate")
URL = "postgresql://user:secret@db.example.com:6432/data"


def default(environ: dict[str, str], *, pooled: bool = False) -> dict[str, object]:
    return databases(HOME, environ, pooled=pooled)["default"]


def test_without_a_url_the_embedded_server_is_named_and_not_started(tmp_path: Path) -> None:
    settings = databases(tmp_path, {}, pooled=False)["default"]

    assert settings["ENGINE"] == "apperate.database.embedded"
    assert (settings["NAME"], settings["USER"]) == ("apperate", "apperate_app")
    assert settings["HOST"] == str(tmp_path / "db")
    assert list(tmp_path.iterdir()) == []


def test_the_owner_role_of_the_embedded_server_has_its_own_name() -> None:
    assert default({"APPERATE_DATABASE_ROLE": "owner"})["USER"] == "apperate_owner"
    assert default({"APPERATE_DATABASE_ROLE": "app"})["USER"] == "apperate_app"


def test_a_url_is_taken_apart() -> None:
    settings = default({"DATABASE_URL": URL})

    assert settings["ENGINE"] == "apperate.database.pooled"
    assert (settings["HOST"], settings["PORT"]) == ("db.example.com", "6432")
    assert (settings["NAME"], settings["USER"], settings["PASSWORD"]) == ("data", "user", "secret")


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("postgresql://u:p%40ss%2Fword@host/a%20b", {"PASSWORD": "p@ss/word", "NAME": "a b"}),
        ("postgres://u@host/db", {"USER": "u", "PASSWORD": "", "PORT": ""}),
        ("postgresql:///db?host=/run/postgresql&user=u", {"HOST": "/run/postgresql", "USER": "u"}),
        ("postgresql://u@%2Frun%2Fpostgresql/db", {"HOST": "/run/postgresql"}),
        ("postgresql://u@[::1]:5433/db", {"HOST": "::1", "PORT": "5433"}),
        ("postgresql://one:1,two:2/db", {"HOST": "one,two", "PORT": "1,2"}),
    ],
    ids=["percent", "short", "socket-query", "socket-host", "ipv6", "two-hosts"],
)
def test_a_url_may_have_every_form_of_libpq(url: str, expected: dict[str, str]) -> None:
    settings = default({"DATABASE_URL": url})

    assert {name: settings[name] for name in expected} == expected


def test_parameters_of_the_url_reach_libpq() -> None:
    options = default({"DATABASE_URL": URL + "?sslmode=verify-full&sslrootcert=/ca.pem&connect_timeout=1"})[
        "OPTIONS"
    ]

    assert options["sslmode"] == "verify-full"
    assert options["sslrootcert"] == "/ca.pem"
    assert options["connect_timeout"] == "1"


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("mysql://u:secret@host/db", "must begin with postgresql://"),
        ("host=localhost dbname=x", "must begin with postgresql://"),
        ("postgresql:///db", "has no host"),
        ("postgresql://u:secret@host", "has no database name"),
        ("postgresql://u:secret@host/", "has no database name"),
        ("postgresql://u:secret@host:abc/db", "has port 'abc'"),
        ("postgresql://u:secret@host:70000/db", "has port '70000'"),
        ("postgresql://u:secret@host/db?sslmode=on", "has sslmode 'on'"),
        ("postgresql://u:secret@host/db?colour=red", "cannot be read"),
        ("postgresql://u:secret%zz@host/db", "cannot be read"),
        ("postgresql://u:secret@[::1/db", "cannot be read"),
    ],
)
def test_a_url_that_cannot_be_right_is_refused_without_showing_it(url: str, words: str) -> None:
    with pytest.raises(ImproperlyConfigured) as refused:
        default({"DATABASE_URL": url})

    message = str(refused.value)
    assert message.startswith("DATABASE_URL ")
    assert words in message
    assert "Needed" in message
    assert "secret" not in message
    assert "\n" not in message


def test_the_owner_url_is_for_the_owner_alone() -> None:
    environ = {"DATABASE_URL": URL, "DATABASE_OWNER_URL": "postgresql://boss@host/data"}

    assert default(environ)["USER"] == "user"
    assert default({**environ, "APPERATE_DATABASE_ROLE": "owner"})["USER"] == "boss"
    assert default({"DATABASE_URL": URL, "APPERATE_DATABASE_ROLE": "owner"})["USER"] == "user"


def test_a_wrong_owner_url_is_named() -> None:
    environ = {"DATABASE_URL": URL, "DATABASE_OWNER_URL": "nonsense", "APPERATE_DATABASE_ROLE": "owner"}

    with pytest.raises(ImproperlyConfigured, match="DATABASE_OWNER_URL must begin"):
        default(environ)


def test_an_owner_url_alone_is_refused() -> None:
    with pytest.raises(ImproperlyConfigured, match="needs DATABASE_URL beside it"):
        default({"DATABASE_OWNER_URL": URL})


def test_a_replica_is_a_second_database_that_tests_mirror() -> None:
    found = databases(
        HOME, {"DATABASE_URL": URL, "DATABASE_REPLICA_URL": URL.replace("db.", "re.")}, pooled=False
    )

    assert found["replica"]["HOST"] == "re.example.com"
    assert found["replica"]["TEST"] == {"MIRROR": "default"}


@pytest.mark.check("S37")
def test_every_connection_has_time_limits_and_a_pinned_search_path() -> None:
    """S57: no request waits for a database that hangs, and names mean what the project means."""
    for environ in ({}, {"DATABASE_URL": URL}):
        options = default(environ)["OPTIONS"]

        assert options["connect_timeout"] == 2
        for setting in (
            "statement_timeout=5s",
            "lock_timeout=2s",
            "idle_in_transaction_session_timeout=10s",
            "search_path=public,pg_temp",
        ):
            assert f"-c {setting}" in options["options"]


def test_the_owner_may_take_longer_for_a_statement() -> None:
    options = default({"DATABASE_URL": URL, "APPERATE_DATABASE_ROLE": "owner"})["OPTIONS"]

    assert "-c statement_timeout=0" in options["options"]
    assert "-c lock_timeout=2s" in options["options"]


def test_options_of_the_url_come_before_the_limits() -> None:
    options = default({"DATABASE_URL": URL + "?options=-csearch_path%3Devil"})["OPTIONS"]

    assert options["options"].index("search_path=evil") < options["options"].index(
        "search_path=public,pg_temp"
    )


def test_only_tcp_has_tcp_timeouts() -> None:
    assert default({"DATABASE_URL": URL})["OPTIONS"]["tcp_user_timeout"] == 5000
    assert "tcp_user_timeout" not in default({})["OPTIONS"]
    assert "keepalives" not in default({"DATABASE_URL": "postgresql:///db?host=/run"})["OPTIONS"]


def test_a_pool_waits_at_most_a_second() -> None:
    settings = default({}, pooled=True)

    assert settings["OPTIONS"]["pool"]["timeout"] <= 1
    assert settings["CONN_MAX_AGE"] == 0
    assert "pool" not in default({}, pooled=False)["OPTIONS"]


def test_libpq_knows_every_option() -> None:
    for environ in ({}, {"DATABASE_URL": URL}):
        options = dict(default(environ)["OPTIONS"])

        known = conninfo_to_dict(make_conninfo(**options))

        assert {name: str(value) for name, value in known.items()} == {
            name: str(value) for name, value in options.items()
        }
