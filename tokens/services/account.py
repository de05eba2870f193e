"""The account endpoints of older clients: subscription facts, usage, two settings.

    metadata(workspace, now=…) -> dict          GET /v1/account/metadata
    usage(workspace, now=…) -> dict             GET /v1/account/usage and /usage/messages
    set_budget(), set_pay_as_you_go()           stored and returned; only a token's own credit limit stops it

CORE spending comes from the token's credit window, the row that enforces its limit and that the pages show;
only its distribution over days and datasets comes from the usage counters, which may miss a second's calls
after a crash. "Messages" is the older word for credits. Secret tokens are masked.
Source: docs/api.md; docs/decisions/0005-credits.md.
"""

from collections.abc import Iterable
from datetime import datetime
from typing import Any

from django.db import connection, transaction

from apperate.accounts.audit import trail
from apperate.accounts.models import Workspace
from apperate.database.clock import month_of
from apperate.kernel.dates import milliseconds
from tokens.models import Token

TOKENS_MAX = 10_000

# Credits by UTC day and dataset since the month began. Index: tokens_usage_once.
COUNTED = """
SELECT to_char(u.minute AT TIME ZONE 'UTC', 'YYYYMMDD') AS day, u.dataset_id, sum(u.credits)::bigint
  FROM tokens_usagecounter u
 WHERE u.token_id = ANY(%(tokens)s) AND u.minute >= %(since)s AND u.minute <= %(now)s AND u.credits > 0
 GROUP BY 1, 2 ORDER BY 1, 2
"""

# One row per token that spent something this month: CORE from the window, the rest from the counters.
# Indexes: tokens_creditwindow_once, tokens_usage_once.
SPENT = """
SELECT s.token_id, sum(s.credits)::bigint
  FROM (SELECT w.token_id, w.used AS credits FROM tokens_creditwindow w
         WHERE w.token_id = ANY(%(tokens)s) AND w.month = %(month)s
        UNION ALL
        SELECT u.token_id, u.credits - u.core_credits FROM tokens_usagecounter u
         WHERE u.token_id = ANY(%(tokens)s) AND u.minute >= %(since)s AND u.minute <= %(now)s) s
 GROUP BY 1 HAVING sum(s.credits) > 0 ORDER BY 1
"""


def metadata(workspace: Workspace, *, now: datetime) -> dict[str, Any]:
    """The subscription: nothing is billed here, so what the older service sold is reported as unlimited."""
    spent = sum(cost for _, cost in _rows(SPENT, workspace, now))
    budget = workspace.message_budget
    return {
        "payAsYouGoEnabled": workspace.pays_as_it_goes,
        "overagesEnabled": False,
        "effectiveDate": milliseconds(workspace.created_at),
        "endDateEffective": None,
        "subscriptionTermType": "monthly",
        "tierName": workspace.plan,
        "messageLimit": budget or 0,
        "creditLimit": budget or 0,
        "messagesUsed": spent,
        "creditsUsed": spent,
        "circuitBreaker": budget,
    }


def usage(workspace: Workspace, *, now: datetime) -> dict[str, Any]:
    """The credits of this UTC month by day, token and dataset."""
    spent, counted = _rows(SPENT, workspace, now), _rows(COUNTED, workspace, now)
    names = _names({dataset for _, dataset, _ in counted})
    shown = _shown(workspace)
    return {
        "dailyUsage": _summed((day, cost) for day, _, cost in counted),
        "monthlyUsage": sum(cost for _, cost in spent),
        "monthlyPayAsYouGo": 0,
        "tokenUsage": _summed((shown[token], cost) for token, cost in spent),
        "keyUsage": _summed((names.get(dataset, str(dataset)), cost) for _, dataset, cost in counted),
    }


def set_pay_as_you_go(workspace_id: int, *, allowed: bool, now: datetime) -> None:
    """Store what an owner says about paying for more; metadata() returns it, and it lifts no limit."""
    _keep(workspace_id, "pays_as_it_goes", allowed, now)


def set_budget(workspace_id: int, *, messages: int, now: datetime) -> None:
    """Store the monthly budget an owner sets; 0 removes it."""
    _keep(workspace_id, "message_budget", messages or None, now)


def _keep(workspace_id: int, name: str, value: Any, now: datetime) -> None:
    with transaction.atomic():
        workspace = Workspace.objects.select_for_update().get(pk=workspace_id)
        before = getattr(workspace, name)
        setattr(workspace, name, value)
        workspace.save(update_fields=[name])
        trail.record(
            "account.edit",
            workspace=workspace,
            by=None,
            now=now,
            target=workspace.name,
            before={name: before},
            after={name: value},
        )


def _rows(sql: str, workspace: Workspace, now: datetime) -> list[tuple[Any, ...]]:
    """The rows of SPENT or COUNTED for a workspace's tokens, including those in the trash."""
    tokens = list(Token.objects.filter(workspace=workspace).values_list("pk", flat=True)[:TOKENS_MAX])
    month = month_of(now)
    with connection.cursor() as cursor:
        cursor.execute(sql, {"tokens": tokens, "since": month, "month": month.date(), "now": now})
        return cursor.fetchall()


def _names(datasets: Iterable[int]) -> dict[int, str]:
    """Dataset names by id; this module cannot import their model."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT id, name FROM datasets_dataset WHERE id = ANY(%s)", [list(datasets)])
        return dict(cursor.fetchall())


def _shown(workspace: Workspace) -> dict[int, str]:
    """How each token is shown: a publishable one in full, a secret one masked."""
    found = Token.objects.filter(workspace=workspace).prefetch_related("secrets")[:TOKENS_MAX]
    values = {}
    for token in found:
        current = max(token.secrets.all(), key=lambda secret: (secret.created_at, secret.pk), default=None)
        values[token.pk] = (current.clear or current.masked) if current else str(token.pk)
    return values


def _summed(pairs: Iterable[tuple[str, int]]) -> dict[str, int]:
    total: dict[str, int] = {}
    for name, cost in pairs:
        total[name] = total.get(name, 0) + cost
    return total
