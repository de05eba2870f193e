"""A database that executes the statements of the token core, in memory: rows, transactions, ids, a clock.

Each statement is executed whole at one instant, as row locks make PostgreSQL's look to who waits for them.
Held to PostgreSQL by test_same_as_postgresql.py.
"""

import json
import re
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime, timedelta
from math import floor
from typing import Any

from apperate.database import follower, propagation
from tokens.gate import credits, leases, snapshots, throttling
from tokens.metering import meter

ACTIONS = ("read", "write", "delete")
READ = "SELECT the records of an answer"  # Stands for what datasets/storage sends.
Rows = list[tuple[Any, ...]] | None  # None: the statement has no result


@dataclass(frozen=True)
class Revision:
    """A saved version. `settings`: its columns and its grants, as LOAD gives them."""

    number: int
    saved_at: datetime
    effective_at: datetime
    settings: dict[str, Any]
    is_withdrawn: bool = False
    is_past: bool = False


@dataclass(frozen=True)
class Value:
    digest: bytes
    text: str
    retires_at: datetime | None = None


@dataclass(frozen=True)
class TokenRow:
    """A token with its values and versions, oldest first: what one transaction leaves."""

    id: int
    public_id: str
    workspace_id: int
    values: tuple[Value, ...]
    revisions: tuple[Revision, ...]
    nickname: str = ""
    disabled_at: datetime | None = None
    deleted_at: datetime | None = None
    expires_at: datetime | None = None
    changed_xid: int = 0

    def live(self) -> list[Revision]:
        """Newest first, at most two."""
        kept = [r for r in self.revisions if not r.is_withdrawn and not r.is_past]
        return sorted(kept, key=lambda r: -r.number)[:2]


@dataclass(frozen=True)
class WorkspaceRow:
    id: int
    name: str
    has_premium: bool = False
    plan: str = "business"
    changed_xid: int = 0


@dataclass
class Cluster:
    """The transactions that run, and the next one's id."""

    next_xid: int
    running: set[int] = field(default_factory=set)


class Server:
    """The rows, and the statements on them. `clock` is the database's time."""

    def __init__(self, clock: Callable[[], datetime]) -> None:
        self.clock = clock
        self.cluster = Cluster(next_xid=1_000)
        self.tokens: dict[int, TokenRow] = {}
        self.workspaces: dict[int, WorkspaceRow] = {}
        self.by_digest: dict[bytes, int] = {}
        self.windows: dict[tuple[int, date], list[int]] = {}  # used, last_lease
        self.throttles: dict[int, tuple[float, datetime, int]] = {}
        self.flushes: set[Any] = set()
        self.usage: dict[tuple[Any, ...], list[int]] = {}
        self.locks: dict[int, int] = {}
        self._statements: dict[str, Callable[[dict[str, Any]], Rows]] = {
            snapshots.LOAD: self._load, leases.DRAW: self._draw, leases.RETURN: self._return,
            throttling.DRAW: self._throttle, meter.FLUSH: self._flush, credits.USED: self._used,
            READ: lambda _: [],
        }  # fmt: skip

    def execute(self, statement: Any, parameters: dict[str, Any]) -> Rows:
        return self._statements[statement](parameters)

    # --- the sessions that follow changes -----------------------------------------------------------

    def follow(self, session: int, statement: Any, parameters: Any) -> Rows:
        """A statement of a worker's own session; its locks are named by the session's number."""
        text = statement if isinstance(statement, str) else statement.as_string(None)
        if text.startswith("LISTEN "):
            return None
        if text == follower.BEGIN:
            self.locks[session] = self.tick()
            return [(None, self.locks[session])]
        if text == follower.CONFIRM:
            self.locks[session] = parameters[0]
            return [(None, True)]
        return self._poll(text, parameters["xmin"])

    def tick(self) -> int:
        """The database's time as the number of a lock."""
        passed = self.clock() - datetime(1970, 1, 1, tzinfo=UTC)
        return passed // timedelta(seconds=1 / propagation.TICKS_PER_SECOND) % propagation.TICKS

    # --- transactions that change tokens ----------------------------------------------------------

    def begin(self) -> int:
        """The id of a transaction that writes; it runs until commit() or roll_back()."""
        xid = self.cluster.next_xid
        self.cluster.next_xid += 1
        self.cluster.running.add(xid)
        return xid

    def commit(self, xid: int, *rows: TokenRow | WorkspaceRow) -> None:
        for row in rows:
            if isinstance(row, WorkspaceRow):
                self.workspaces[row.id] = replace(row, changed_xid=xid)
            else:
                self.tokens[row.id] = replace(row, changed_xid=xid)
                self.index()
        self.cluster.running.discard(xid)

    def index(self) -> None:
        """Find values of tokens again, after their rows were replaced."""
        self.by_digest = {value.digest: row.id for row in self.tokens.values() for value in row.values}

    def roll_back(self, xid: int) -> None:
        self.cluster.running.discard(xid)

    def another_cluster(self, behind: int) -> None:
        """A copy of this one takes over, some transactions behind: it gives their ids again."""
        stamps = [row.changed_xid for row in (*self.tokens.values(), *self.workspaces.values())]
        next_xid = max(*stamps, self.cluster.next_xid - behind - 1) + 1
        self.cluster = Cluster(next_xid)

    def restarted(self) -> None:
        """The same cluster, another server process; what had not committed is gone."""
        self.cluster = Cluster(self.cluster.next_xid)

    # --- the core's statements --------------------------------------------------------------------

    def _poll(self, statement: str, xmin: int) -> Rows:
        tables: dict[str, dict[int, Any]] = {
            "tokens_token": self.tokens, "accounts_workspace": self.workspaces
        }  # fmt: skip
        oldest = min(self.cluster.running, default=self.cluster.next_xid)
        changed = [
            [row.id for row in tables[name].values() if row.changed_xid >= xmin]
            for name in re.findall(r'FROM "(\w+)"', statement)
        ]
        return [(oldest, self.clock(), self.tick(), *changed)]

    def _load(self, p: dict[str, Any]) -> Rows:
        token = self.tokens.get(self.by_digest.get(p["digest"], 0))
        if token is None:
            return []
        now, workspace = self.clock(), self.workspaces[token.workspace_id]
        value = next(v for v in token.values if v.digest == p["digest"])
        month = now.astimezone(UTC).date().replace(day=1)
        used, _ = self.windows.get((token.id, month), (0, 0))
        versions = [
            {**r.settings, "number": r.number, "effective_at": r.effective_at.isoformat()}
            for r in token.live()
        ]
        return [
            (
                token.id, token.public_id, "publishable", token.nickname, token.disabled_at, token.deleted_at,
                token.expires_at, value.retires_at, workspace.id, workspace.name, workspace.has_premium,
                False, workspace.plan, now, json.dumps(versions), None, month, used,
            )
        ]  # fmt: skip

    def _write(self) -> None:
        self.cluster.next_xid += 1

    def _draw(self, p: dict[str, Any]) -> Rows:
        self._write()
        key, need, limit = (p["token"], p["month"]), p["need"], p["limit"]
        row = self.windows.get(key)
        used = row[0] if row else 0
        if used + need > limit:
            return []
        taken = max(need, min(p["wanted"], int((limit - used) / p["share"])))
        self.windows[key] = [used + taken, taken]
        return [(used + taken, taken)]

    def _return(self, p: dict[str, Any]) -> Rows:
        self._write()
        if p["batch"] not in self.flushes:
            self.flushes.add(p["batch"])
            for token, month, amount in zip(p["tokens"], p["months"], p["credits"], strict=True):
                if row := self.windows.get((token, month)):
                    row[0] = max(0, row[0] - amount)
        return None

    def _used(self, p: dict[str, Any]) -> Rows:
        row = self.windows.get((p["token"], p["month"]))
        return [(row[0],)] if row else []

    def _throttle(self, p: dict[str, Any]) -> Rows:
        self._write()
        token, burst, debt, now = p["token"], p["burst"], p["debt"], p["now"]
        level, filled_at = float(burst), now
        if row := self.throttles.get(token):
            level, filled_at, _ = row
            passed = max(0, (now - filled_at) // timedelta(microseconds=1))
            level = min(float(burst), level + p["rate"] * passed / 1_000_000)
            is_set_back = filled_at > now + timedelta(seconds=throttling.BEHIND_SECONDS)
            filled_at = now if is_set_back else max(filled_at, now)
        taken = debt + min(p["wanted"], max(0, floor(level - debt)))
        self.throttles[token] = (level - taken, filled_at, taken)
        return [(level - taken, taken)]

    def _flush(self, p: dict[str, Any]) -> Rows:
        self._write()
        if p["batch"] in self.flushes:
            return None
        self.flushes.add(p["batch"])
        names = ("tokens", "datasets", "operations", "outcomes", "minutes")
        figures = ("calls", "records", "credits", "core")
        for slot, more in zip(zip(*(p[n] for n in names), strict=True),
                              zip(*(p[f] for f in figures), strict=True), strict=True):  # fmt: skip
            sums = self.usage.setdefault(slot, [0, 0, 0, 0])
            sums[:] = [had + new for had, new in zip(sums, more, strict=True)]
        for token, month, amount in zip(p["spenders"], p["months"], p["uncharged"], strict=True):
            if token in self.tokens:
                self.windows.setdefault((token, month), [0, 0])[0] += amount
        return None
