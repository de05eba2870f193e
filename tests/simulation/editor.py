"""Edits of a token's rows as the dashboard makes them, and which random edits are made.

Each edit is a function of the locked row and the time; it returns the row to commit, or None when it changes
nothing.
The same rules as tokens/services/lifecycle.py, which test_same_as_postgresql.py holds them to.
"""

import random
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

from tests.simulation.server import ACTIONS, Revision, TokenRow, Value
from tokens.rules import token_format

Edit = Callable[[TokenRow, datetime], TokenRow | None]
SITES = ("https://a.example", "https://b.example")
VALUES_KEPT = 3
RATES = ((None, None), (8, 16), (20, None), (50, 100), (100, 240), (200, 400))

PLAIN: dict[str, Any] = {
    "signed_requests": False, "core_data_access": True, "premium_data_access": False, "allowed_domains": [],
    "core_credit_limit": None, "requests_per_second": None, "burst": None, "domains_report_only": False,
    **{f"all_datasets_{action}": False for action in ACTIONS}, "grants": [],
}  # fmt: skip


def counting(row: TokenRow, now: datetime) -> tuple[Revision | None, Revision | None]:
    """The versions in force and pending at a time."""
    live = row.live()
    if not live:
        return None, None
    newest, before = live[0], live[1] if len(live) > 1 else None
    return (newest, None) if newest.effective_at <= now else (before, newest)


def saved(row: TokenRow, now: datetime) -> dict[str, Any]:
    in_force, pending = counting(row, now)
    latest = pending or in_force
    return latest.settings if latest else PLAIN


def save(settings: dict[str, Any], delay: timedelta) -> Edit:
    def edit(row: TokenRow, now: datetime) -> TokenRow | None:
        in_force, pending = counting(row, now)
        if row.deleted_at or ((pending or in_force) and settings == saved(row, now)):
            return None
        kept = [
            replace(
                r,
                is_withdrawn=r.is_withdrawn or r is pending,
                is_past=r.is_past or bool(in_force and r in row.live() and r.number < in_force.number),
            )
            for r in row.revisions
        ]
        number = max((r.number for r in row.revisions), default=0) + 1
        # What counts no more is not needed again.
        kept = [r for r in kept if not r.is_withdrawn and not r.is_past]
        return replace(row, revisions=(*kept, Revision(number, now, now + delay, settings)))

    return edit


def undo(row: TokenRow, now: datetime) -> TokenRow | None:
    in_force, pending = counting(row, now)
    if pending is None or in_force is None:
        return None
    return replace(row, revisions=tuple(r for r in row.revisions if r is not pending))


def apply_now(row: TokenRow, now: datetime) -> TokenRow | None:
    pending = counting(row, now)[1]
    if pending is None:
        return None
    applied = replace(pending, effective_at=now, saved_at=min(now, pending.saved_at))
    return replace(row, revisions=tuple(applied if r is pending else r for r in row.revisions))


def disable(row: TokenRow, now: datetime) -> TokenRow | None:
    return None if row.disabled_at else replace(row, disabled_at=now)


def enable(row: TokenRow, now: datetime) -> TokenRow | None:
    return replace(row, disabled_at=None) if row.disabled_at else None


def delete(row: TokenRow, now: datetime) -> TokenRow | None:
    return None if row.deleted_at else replace(row, deleted_at=now)


def restore(row: TokenRow, now: datetime) -> TokenRow | None:
    return replace(row, deleted_at=None) if row.deleted_at else None


def expire(at: datetime | None) -> Edit:
    return lambda row, now: None if row.expires_at == at else replace(row, expires_at=at)


def rotate(value: Value, overlap: timedelta) -> Edit:
    def edit(row: TokenRow, now: datetime) -> TokenRow | None:
        if row.deleted_at:
            return None
        old = [
            replace(v, retires_at=now) if v.retires_at and v.retires_at > now
            else replace(v, retires_at=now + overlap) if v.retires_at is None else v
            for v in row.values
        ]  # fmt: skip
        return replace(row, values=(*old[-VALUES_KEPT:], value))  # Older ones have ended, and cost time.

    return edit


def new_value(chance: random.Random) -> Value:
    body = token_format.TokenKind.PUBLISHABLE.prefix + f"{chance.getrandbits(128):032x}"
    text = body + token_format._checksum(body)
    return Value(token_format.digest(text), text)


def any_settings(
    chance: random.Random, old: dict[str, Any], dataset_ids: tuple[int, ...], used: int
) -> dict[str, Any]:
    """Some other settings: what an owner changes in one save, near what makes a difference."""
    new = dict(old)
    for what in chance.sample(
        ("access", "grants", "domains", "limit", "limit", "rate"), chance.choice((1, 1, 2, 3))
    ):
        if what == "access":
            name = chance.choice(
                ("core_data_access", "premium_data_access", "domains_report_only", "core_data_access")
            )
            new[name] = not old[name] or (name == "core_data_access" and chance.random() < 0.6)
        elif what == "grants":
            new["grants"] = [
                [pk, *flags] for pk in dataset_ids
                if any(flags := [chance.random() < 0.7, chance.random() < 0.5, chance.random() < 0.3])
            ]  # fmt: skip
            new["all_datasets_read"] = chance.random() < 0.3
        elif what == "domains":
            new["allowed_domains"] = chance.choice(([], [], [], ["a.example"], ["a.example", "b.example"]))
        elif what == "limit":
            more = chance.choice(
                (-200, -40, -5, 0, 1, 20, 100, 500, 3_000, 3_000, 20_000, 20_000, 100_000, None)
            )
            new["core_credit_limit"] = None if more is None else max(0, used + more)
        else:
            new["requests_per_second"], new["burst"] = chance.choice(RATES)
    return new


def any_edit(
    chance: random.Random,
    row: TokenRow,
    now: datetime,
    delay: timedelta,
    dataset_ids: tuple[int, ...],
    used: int,
) -> tuple[str, Edit]:
    what = chance.choices(
        ("save", "undo", "apply", "disable", "enable", "delete", "restore", "expire", "rotate"),
        (14, 1, 3, 1, 6, 1, 8, 2, 1),
    )[0]
    if what == "save":
        return what, save(any_settings(chance, saved(row, now), dataset_ids, used), delay)
    if what == "expire":
        seconds = chance.choice((None, None, None, None, None, 3, 20, 60))
        return what, expire(None if seconds is None else now + timedelta(seconds=seconds))
    if what == "rotate":
        return what, rotate(new_value(chance), timedelta(seconds=chance.choice((0, 5, 3600))))
    plain: dict[str, Edit] = {
        "undo": undo, "apply": apply_now, "disable": disable, "enable": enable, "delete": delete,
        "restore": restore,
    }  # fmt: skip
    return what, plain[what]
