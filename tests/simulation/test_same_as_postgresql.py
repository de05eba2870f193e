"""The simulated database and PostgreSQL give the same answers: to the core's statements, and after edits."""

import random
from contextlib import ExitStack, closing
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import psycopg
import pytest
from django.db import connection
from django.test import override_settings

from tests.simulation import editor
from tests.simulation.server import Server, TokenRow, Value, WorkspaceRow
from tests.support.factories import DatasetFactory, TokenFactory
from tokens.gate import credits, leases, snapshots, throttling
from tokens.metering import meter
from tokens.models import Token
from tokens.rules import token_format
from tokens.rules.permissions import Settings
from tokens.services import lifecycle, rotation, saved_settings

START = datetime(2026, 11, 30, 23, 59, tzinfo=UTC)
MONTHS = (START.date().replace(day=1), START.date().replace(month=12, day=1))
STATEMENTS = 2_000
EDITS = 150
DELAY = timedelta(seconds=30)


def any_statement(
    chance: random.Random, tokens: list[int], batches: list[UUID]
) -> tuple[str, dict[str, Any]]:
    """One of those that change something, with few tokens and small figures, so that they meet."""
    token, month = chance.choice(tokens), chance.choice(MONTHS)
    what = chance.choice(("draw", "draw", "return", "throttle", "throttle", "flush", "used"))
    if what == "draw":
        return leases.DRAW, {
            "token": token, "month": month, "need": chance.randint(1, 40), "share": leases.SHARE,
            "limit": chance.choice((0, 30, 500, 9_000, 2**40)), "wanted": chance.choice((0, 20, 200)),
        }  # fmt: skip
    if what == "throttle":
        now = START + timedelta(microseconds=chance.randrange(60_000_000))
        return throttling.DRAW, {
            "token": token, "rate": chance.choice((1, 7, 200)), "burst": chance.choice((1, 10, 240)),
            "now": now, "debt": chance.choice((0, 0, 3)), "wanted": chance.choice((1, 2)),
        }  # fmt: skip
    if what == "used":
        return credits.USED, {"token": token, "month": month}
    if chance.random() < 0.7:
        batches.append(UUID(int=chance.getrandbits(128)))
    batch = chance.choice(batches[-4:]) if batches else UUID(int=1)
    some = sorted(chance.sample(tokens, 2))
    if what == "return":
        amounts = [chance.randint(1, 30) for _ in some]
        return leases.RETURN, {"batch": batch, "tokens": some, "months": [month] * 2, "credits": amounts}
    minutes = [START.replace(second=0) + timedelta(minutes=chance.randint(0, 1))] * 2
    figures = {name: [chance.randint(0, 9), 1] for name in ("calls", "records", "credits", "core")}
    return meter.FLUSH, {
        "batch": batch, "tokens": some, "datasets": [0, 5], "operations": ["read"] * 2,
        "outcomes": ["ok"] * 2, "minutes": minutes, **figures,
        "spenders": [token, 2**40], "months": [month] * 2, "uncharged": [chance.randint(1, 9), 1],
    }  # fmt: skip


def real(statement: str, parameters: dict[str, Any]) -> list[tuple[Any, ...]] | None:
    with connection.cursor() as cursor:
        cursor.execute(statement, parameters)
        return cursor.fetchall() if cursor.description else None


def shown(rows: list[tuple[Any, ...]] | None) -> Any:
    """Rows with floats as PostgreSQL and Python agree on them, to a millionth."""
    return rows and [tuple(round(v, 6) if isinstance(v, float) else v for v in row) for row in rows]


@pytest.mark.slow("2,000 statements")
def test_each_statement_has_the_same_result_and_leaves_the_same_rows(db: None) -> None:
    chance, batches = random.Random(20_261_130), [UUID(int=1)]
    tokens = [token.pk for token in TokenFactory.create_batch(3)]
    server = Server(lambda: START)
    server.workspaces[1] = WorkspaceRow(1, "ACME")
    for pk in tokens:
        server.commit(server.begin(), TokenRow(pk, f"tok_{pk}", 1, (), ()))

    for number in range(STATEMENTS):
        statement, parameters = any_statement(chance, tokens, batches)
        here, there = shown(server.execute(statement, parameters)), shown(real(statement, parameters))
        assert here == there, (number, statement, parameters)

    windows = real("SELECT token_id, month, used, last_lease FROM tokens_creditwindow", {})
    buckets = real("SELECT token_id, level, filled_at, last_taken FROM tokens_throttle", {})
    usage = real(
        """SELECT token_id, dataset_id, operation, outcome, minute, calls, records, credits, core_credits
             FROM tokens_usagecounter""", {}
    )  # fmt: skip
    assert windows is not None and buckets is not None and usage is not None
    assert sorted(windows) == sorted((*key, *row) for key, row in server.windows.items())
    assert sorted(shown(buckets)) == sorted(shown([(pk, *row) for pk, row in server.throttles.items()]))
    assert sorted(usage) == sorted((*slot, *figures) for slot, figures in server.usage.items())
    assert len(windows) == 6 and len(usage) == 8


# --- edits ------------------------------------------------------------------------------------------


def loaded(row: tuple[Any, ...], names: dict[int, int]) -> Any:
    """What a worker makes of a row of LOAD, with the ids of one side in the place of the other's."""
    found = snapshots.snapshot_of(row[:-2])
    versions = [v and replace(v, grants={names.get(k, k): a for k, a in v.grants.items()})
                for v in (found.in_force, found.pending)]  # fmt: skip
    times = (
        found.disabled_at,
        found.deleted_at,
        found.expires_at,
        found.value_retires_at,
        found.effective_at,
    )
    return versions, times


def settings_of(columns: dict[str, Any], names: dict[int, int]) -> Settings:
    grants = [[names[pk], *flags] for pk, *flags in columns["grants"]]
    return snapshots._settings({**columns, "grants": grants})


@pytest.mark.slow("150 edits, and what they leave")
def test_each_edit_leaves_what_the_services_leave(db: None) -> None:
    """The dashboard's services beside the simulated edits, and what LOAD says of each value after them."""
    chance, now = random.Random(20_261_130), START
    token = TokenFactory(workspace__has_premium=True)
    datasets = [DatasetFactory(workspace=token.workspace).pk for _ in range(2)]
    names = dict(enumerate(datasets, start=4))
    moment = [now]
    server = Server(lambda: moment[0])
    server.workspaces[1] = WorkspaceRow(1, "ACME")
    first = Value(token_format.digest(token.test_value), token.test_value)
    revision = token.versions(now=now + timedelta(days=3_650)).saved
    assert revision is not None
    columns = {**editor.PLAIN, **{name: getattr(revision, name) for name in editor.PLAIN if name != "grants"}}
    begun = editor.Revision(revision.number, revision.saved_at, revision.effective_at, columns)
    row = TokenRow(1, token.public_id, 1, (first,), (begun,))
    server.commit(server.begin(), row)
    made: set[str] = set()

    for _ in range(EDITS):
        now += timedelta(seconds=chance.choice((1, 10, 40)) * chance.choice((1, 1, 1, 1, -1)))
        moment[0] = now
        what, edit = editor.any_edit(chance, row, now, DELAY, (4, 5), 100)
        with override_settings(ACTIVATION_SECONDS=DELAY.total_seconds()):
            becomes = follow(what, edit, token, row, now, names)
        if becomes is None:
            continue
        made.add(what)
        row = becomes
        server.commit(server.begin(), row)
        for value in row.values:
            parameters = {"digest": value.digest, "has_checksum": True}
            here, there = server.execute(snapshots.LOAD, parameters), real_load(value, now)
            assert here is not None
            assert loaded(here[0], names) == loaded(there, {}), (what, now)

    assert made == {"save", "undo", "apply", "disable", "enable", "delete", "restore", "expire", "rotate"}


def follow(
    what: str, edit: editor.Edit, token: Token, row: TokenRow, now: datetime, names: dict[int, int]
) -> TokenRow | None:
    """Make an edit in both places; the row that it leaves, None when both say that it changes nothing."""
    becomes, options = edit(row, now), {"token": token, "by": None, "now": now}
    if what == "save":
        columns = becomes.revisions[-1].settings if becomes else editor.saved(row, now)
        changes = saved_settings.normal(settings_of(columns, names))
        outcome = lifecycle.save_settings(**options, changes=changes, based_on=None)
        assert (becomes is not None) == bool(getattr(outcome, "revision", None)), outcome
    elif what == "expire":
        lifecycle.set_expiry(**options, expires_at=becomes.expires_at if becomes else row.expires_at)
    elif what == "rotate" and becomes is not None:
        overlap = (
            max(v.retires_at - now for v in becomes.values if v.retires_at) if becomes.values[1:] else DELAY
        )
        if (seconds := overlap.total_seconds()) not in (0, 3600):  # The dashboard offers some times only.
            return None
        rotated = rotation.rotate(**options, overlap_seconds=int(seconds))
        assert isinstance(rotated, rotation.Rotated)
        new = Value(token_format.digest(rotated.value), rotated.value)
        return replace(becomes, values=(*becomes.values[:-1], new))
    elif what != "rotate":
        names_of = {
            "undo": "undo_pending",
            "apply": "apply_now",
            "delete": "delete_token",
            "restore": "restore_token",
        }
        getattr(lifecycle, names_of.get(what, what))(**options)
    return becomes


def real_load(value: Value, now: datetime) -> tuple[Any, ...]:
    """The row of LOAD, as if the database's clock showed `now`."""
    rows = real(snapshots.LOAD, {"digest": value.digest, "has_checksum": True})
    assert rows is not None
    columns = list(rows[0])
    columns[13] = now
    return tuple(columns)


def test_a_poll_tells_of_the_same_rows(transactional_db: None) -> None:
    """Transactions that overlap, commit late or not at all: the ids differ, what is told does not.

    Other databases of the same server may hold the bound back; then more is told, never less.
    """
    chance = random.Random(20_261_130)
    tokens = TokenFactory.create_batch(4)
    server = Server(lambda: START)
    server.workspaces[1] = WorkspaceRow(1, "ACME")
    for token in tokens:
        server.commit(server.begin(), TokenRow(token.pk, token.public_id, 1, (), ()))
    parameters = connection.get_connection_params()
    parameters = {k: v for k, v in parameters.items() if k not in ("cursor_factory", "context")}
    poll = """SELECT pg_snapshot_xmin(pg_current_snapshot())::text::bigint,
                     (SELECT coalesce(array_agg(id ORDER BY id), '{}')
                        FROM tokens_token WHERE changed_xid >= %s)"""
    here, there, is_held_back = 2**62, 2**62, False
    xids: dict[int, int] = {}
    writing: dict[int, tuple[Any, int]] = {}
    seen: list[list[int]] = []
    compared = 0

    with ExitStack() as sessions:
        for _ in range(60):
            token = chance.choice(tokens).pk
            if token not in writing:
                session = sessions.enter_context(closing(psycopg.connect(**parameters)))
                session.execute("UPDATE tokens_token SET nickname = 'x' WHERE id = %s", [token])
                own = session.execute("SELECT pg_current_xact_id()::text::bigint").fetchone()
                xids[token] = own[0]  # type: ignore[index]
                writing[token] = session, server.begin()
            elif chance.random() < 0.7:
                session, xid = writing.pop(token)
                session.commit()
                session.close()
                server.commit(xid, server.tokens[token])
            else:
                session, xid = writing.pop(token)
                session.rollback()
                session.close()
                server.roll_back(xid)
            with psycopg.connect(**parameters) as other:
                there, told = other.execute(poll, [there]).fetchone()  # type: ignore[misc]
            rows = server._poll('FROM "tokens_token"', here)
            assert rows is not None
            here = rows[0][0]
            assert set(rows[0][3]) <= set(told)
            if not is_held_back:
                compared += 1
                assert sorted(rows[0][3]) == told
            running = [xids[token] for token in writing]
            is_held_back = not running or there < min(running)
            seen.append(told)

    assert any(seen) and not all(seen)
    assert compared
