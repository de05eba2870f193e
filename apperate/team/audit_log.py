"""Reading a workspace's audit log: filtered, page by page, and in full as a CSV.

    page_of(workspace, filters) -> Page         50 events, newest first, ready to be shown
    csv_parts(workspace, filters) -> parts      the whole CSV in parts, a thousand events at a time
    last_seal(workspace) -> Seal                the end of the workspace's chain of events

`filters` is the cleaned data of AuditFilterForm. A page starts after the last event of the previous page, so
events written meanwhile do not shift it. Index: accounts_audit_by_time.
"""

import csv
import io
import json
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, time, timedelta
from typing import Any

from asgiref.sync import sync_to_async
from django.db.models import Q, QuerySet
from django.urls import reverse
from django.utils.text import Truncator

from apperate.accounts.audit.words import ACTIONS, Change, changes
from apperate.accounts.models import AuditEvent, AuditHead, Workspace
from apperate.kernel.cells import escape_cell

PAGE_EVENTS = 50
PART_EVENTS = 1_000
NICKNAMES_MAX = 200
COLUMNS = ("time", "who", "address", "action", "thing", "before", "after", "position", "digest")
Place = tuple[datetime, int]


@dataclass(frozen=True, slots=True)
class Thing:
    """What an event is about, or who did it: a name, and the page that shows it if there is one."""

    name: str
    url: str = ""


@dataclass(frozen=True, slots=True)
class Line:
    """One event as a row of the page."""

    event: AuditEvent
    words: str
    who: Thing
    thing: Thing
    changes: list[Change]


@dataclass(frozen=True, slots=True)
class Page:
    lines: list[Line]
    next_place: str


@dataclass(frozen=True, slots=True)
class Seal:
    """An event's position in the chain, and its digest in hex."""

    position: int
    digest: str


def page_of(workspace: Workspace, filters: Mapping[str, Any]) -> Page:
    found = list(below(events_of(workspace, filters), filters.get("below"))[: PAGE_EVENTS + 1])
    shown = found[:PAGE_EVENTS]
    things = things_of(workspace, shown)
    lines = [
        Line(
            event,
            ACTIONS.get(event.action, event.action),
            things.get(event.actor, Thing(event.actor)),
            things.get(event.target, Thing(event.target)),
            changes(event.before, event.after),
        )
        for event in shown
    ]
    return Page(lines, place_of(shown[-1]) if len(found) > len(shown) else "")


def last_seal(workspace: Workspace) -> Seal | None:
    """The end of the workspace's chain of events; None before the first (audit/chain.py)."""
    head = AuditHead.objects.filter(chain=workspace.pk).first()
    return Seal(head.position, bytes(head.digest).hex()) if head else None


def events_of(workspace: Workspace, filters: Mapping[str, Any]) -> QuerySet[AuditEvent]:
    """The workspace's events that match the filters, newest first."""
    found = AuditEvent.objects.filter(workspace=workspace).order_by("-at", "-pk")
    if who := filters.get("who"):
        found = found.filter(actor__icontains=who)
    if action := filters.get("action"):
        found = found.filter(action=action)
    if thing := filters.get("thing"):
        named = workspace.tokens.filter(nickname__icontains=thing).values_list("public_id", flat=True)
        found = found.filter(Q(target__icontains=thing) | Q(target__in=list(named[:NICKNAMES_MAX])))
    if since := filters.get("since"):
        found = found.filter(at__gte=datetime.combine(since, time.min, UTC))
    if until := filters.get("until"):
        found = found.filter(at__lte=datetime.combine(until, time.max, UTC))
    return found


def below(found: QuerySet[AuditEvent], place: Place | None) -> QuerySet[AuditEvent]:
    """The events after a place in the list, that is, the older ones."""
    if place is None:
        return found
    at, pk = place
    # The first condition is the one that uses the index.
    return found.filter(at__lte=at).filter(Q(at__lt=at) | Q(pk__lt=pk))


def place_of(event: AuditEvent) -> str:
    """An event's place in the list, as written in the next page's address."""
    return f"{(event.at - datetime.fromtimestamp(0, UTC)) // timedelta(microseconds=1)}-{event.pk}"


def read_place(text: str) -> Place | None:
    """The place that place_of() wrote; None for anything else."""
    micros, _, pk = text.partition("-")
    if not all(part.isascii() and part.isdigit() and len(part) <= 18 for part in (micros, pk)):
        return None
    try:
        return datetime.fromtimestamp(0, UTC) + timedelta(microseconds=int(micros)), int(pk)
    except OverflowError:
        return None


def things_of(workspace: Workspace, events: list[AuditEvent]) -> dict[str, Thing]:
    """The tokens and datasets that the events name, by that name."""
    tokens = {one.target for one in events if one.action.startswith("token.")}
    tokens |= {one.actor.removeprefix("token ") for one in events if one.actor.startswith("token ")}
    names = {one.target for one in events if one.action.startswith(("dataset.", "records."))}
    things = {}
    for token in workspace.tokens.filter(public_id__in=tokens):
        known = Thing(
            Truncator(token).chars(60),
            reverse("tokens:edit", args=[token.public_id]),
        )
        things[token.public_id] = things[f"token {token.public_id}"] = known
    for name in workspace.datasets.kept().filter(name__in=names).values_list("name", flat=True):
        things[name] = Thing(name, reverse("datasets:detail", args=[name]))
    return things


# --- CSV ------------------------------------------------------------------------------------------


async def csv_parts(workspace: Workspace, filters: Mapping[str, Any]) -> AsyncIterator[bytes]:
    """The events as a CSV. Each part is a query of its own, so that no cursor waits for a slow client."""
    yield csv_text([COLUMNS])
    place: Place | None = None
    while True:
        found = await sync_to_async(csv_part)(workspace, filters, place)
        if not found:
            return
        yield csv_text([csv_row(event) for event in found])
        place = (found[-1].at, found[-1].pk)


def csv_part(workspace: Workspace, filters: Mapping[str, Any], place: Place | None) -> list[AuditEvent]:
    return list(below(events_of(workspace, filters), place)[:PART_EVENTS])


def csv_row(event: AuditEvent) -> tuple[str, ...]:
    values = [
        None if value is None else json.dumps(value, ensure_ascii=False)
        for value in (event.before, event.after)
    ]
    cells = (event.actor, event.address, event.action, event.target, *(value or "" for value in values))
    seal = ("" if event.position is None else str(event.position), bytes(event.digest or b"").hex())
    return (event.at.astimezone(UTC).isoformat(timespec="microseconds"), *map(escape_cell, cells), *seal)


def csv_text(rows: Any) -> bytes:
    text = io.StringIO()
    csv.writer(text, lineterminator="\r\n").writerows(rows)
    return text.getvalue().encode()
