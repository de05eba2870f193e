"""Alerts when a token has reached 50, 80 or 100 % of its credit limit, each once a month.

    raise_alerts(now=…)          create those that are due and queue their messages
    skip_alerts(tokens, now=…)   create them without messages

A task checks the month's credit windows every half minute; requests do none of this work. An alert's row
and its queue entries are made in one transaction. Source: docs/decisions/0005-credits.md.
"""

import logging
import smtplib
import uuid
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from django.db import connection, connections, transaction
from procrastinate import JobContext, RetryStrategy
from procrastinate.contrib.django import app

from apperate.database import sealing
from apperate.database.clock import database_now, month_of
from apperate.database.outage import UNAVAILABLE
from apperate.database.threads import in_thread
from apperate.kernel.keyring import UnreadableSecret
from tokens.alert_models import FAULT_MAX, PERCENTS, CreditAlert, Webhook
from tokens.alerts import mail, webhooks

LATE_SECONDS = 120  # What was reached just before the month ended is reported just after.
ATTEMPTS_MAX = 7  # about six hours, with the waits in between
WAIT_BASE_SECONDS = 4
logger = logging.getLogger("apperate.alerts")

# One row per new alert, at most three per token. The limit is the lowest of the versions that count: the one
# in force, if any, and those saved after it. A limit of 0 raises no alert, because it cannot be used up.
# The table of windows is scanned in full. Indexes: tokens_revision_live, tokens_creditalert_once.
RAISE = """
INSERT INTO tokens_creditalert (id, token_id, month, percent, used, credit_limit, reached_at)
SELECT gen_random_uuid(), w.token_id, w.month, p.percent, w.used, l.lowest, %(now)s
  FROM tokens_creditwindow w
  JOIN tokens_token t ON t.id = w.token_id AND t.deleted_at IS NULL
 CROSS JOIN LATERAL (
       SELECT min(r.core_credit_limit) AS lowest
         FROM tokens_revision r
        WHERE r.token_id = w.token_id AND r.withdrawn_at IS NULL AND NOT r.is_past
          AND r.number >= coalesce((SELECT max(f.number) FROM tokens_revision f
                                     WHERE f.token_id = w.token_id AND f.withdrawn_at IS NULL
                                       AND NOT f.is_past AND f.effective_at <= %(now)s), 0)) l
 CROSS JOIN unnest(%(percents)s::smallint[]) AS p(percent)
 WHERE w.month >= %(month)s AND (%(tokens)s::bigint[] IS NULL OR w.token_id = ANY(%(tokens)s))
   AND l.lowest > 0 AND w.used::numeric * 100 >= l.lowest::numeric * p.percent
   AND NOT EXISTS (SELECT FROM tokens_creditalert a
                    WHERE a.token_id = w.token_id AND a.month = w.month AND a.percent = p.percent)
 ORDER BY w.token_id, w.month, p.percent
    ON CONFLICT (token_id, month, percent) DO NOTHING
RETURNING id
"""


@transaction.atomic
def raise_alerts(*, now: datetime) -> list[uuid.UUID]:
    """Create the alerts that are due and queue their messages; returns the new ids."""
    raised = _insert(None, now)
    posted = CreditAlert.objects.filter(pk__in=raised, token__workspace__webhook__isnull=False)
    for alert_id in raised:
        mail_alert.defer(alert_id=str(alert_id))
    for alert_id in posted.values_list("pk", flat=True):
        post_alert.defer(alert_id=str(alert_id))
    return raised


def skip_alerts(tokens: Iterable[int], *, now: datetime) -> None:
    """Create these tokens' alerts as if they had been sent: for made-up usage."""
    _insert(list(tokens), now)


def _insert(tokens: list[int] | None, now: datetime) -> list[uuid.UUID]:
    month = month_of(now - timedelta(seconds=LATE_SECONDS)).date()
    parameters: dict[str, Any] = {"now": now, "month": month, "percents": list(PERCENTS), "tokens": tokens}
    with connection.cursor() as cursor:
        cursor.execute(RAISE, parameters)
        return [row[0] for row in cursor.fetchall()]


@app.periodic(cron="* * * * * */30")
@app.task(name="raise_alerts", queue="upkeep", queueing_lock="raise_alerts")
async def look(timestamp: int) -> None:
    """Every half minute."""

    def work() -> None:
        raise_alerts(now=database_now())

    await in_thread(work)()


@app.task(
    name="mail_alert",
    queue="alerts",
    retry=RetryStrategy(
        max_attempts=ATTEMPTS_MAX,
        exponential_wait=WAIT_BASE_SECONDS,
        retry_exceptions=(OSError, smtplib.SMTPException, *UNAVAILABLE),
    ),
)
def mail_alert(alert_id: str) -> None:
    """Send one alert to the workspace's managers.

    It is marked as sent first: a worker killed in between leaves it unsent, rather than sent twice.
    """
    try:
        if CreditAlert.objects.filter(pk=alert_id, mailed_at=None).update(mailed_at=database_now()):
            try:
                mail.send(CreditAlert.objects.select_related("token__workspace").get(pk=alert_id))
            except Exception:
                CreditAlert.objects.filter(pk=alert_id).update(mailed_at=None)
                raise
    finally:
        connections.close_all()


class NotPosted(Exception):
    """Makes the queue retry; the message says why."""


@app.task(
    name="post_alert",
    queue="alerts",
    pass_context=True,
    retry=RetryStrategy(
        max_attempts=ATTEMPTS_MAX,
        exponential_wait=WAIT_BASE_SECONDS,
        retry_exceptions=(NotPosted, *UNAVAILABLE),
    ),
)
async def post_alert(context: JobContext, alert_id: str) -> None:
    """Send one alert to its workspace's webhook, until it is accepted or the attempts are used up.

    A worker killed before recording the answer makes it arrive twice, under the same id.
    """
    message = await in_thread(lambda: _message(alert_id))()
    if message is None:
        return
    fault = await webhooks.post(
        message.url, message.body, message_id=message.id, secret=message.secret, at=message.at
    )
    await in_thread(lambda: _note(message, alert_id, fault))()
    if not fault:
        return
    if context.job.attempts < ATTEMPTS_MAX:
        raise NotPosted(fault)
    logger.warning("giving up an alert for the webhook of workspace %s: %s", message.workspace_id, fault)


@dataclass(frozen=True, slots=True)
class Message:
    """What is posted, where, and the secret that signs it."""

    id: uuid.UUID
    workspace_id: int
    url: str
    body: bytes
    secret: str = field(repr=False)
    at: datetime


def _message(alert_id: str) -> Message | None:
    """The message to post; None when it was accepted already, or the webhook is gone."""
    found = CreditAlert.objects.filter(pk=alert_id, posted_at=None).select_related("token__workspace")
    alert = found.first()
    webhook = alert and Webhook.objects.filter(workspace=alert.token.workspace).first()
    if not alert or not webhook:
        return None
    now = database_now()
    try:
        secret = sealing.unseal_webhook_secret(webhook.ciphertext, workspace_id=webhook.workspace_id)
    except UnreadableSecret as error:
        Webhook.objects.filter(pk=webhook.pk).update(tried_at=now, fault=str(error)[:FAULT_MAX])
        return None
    data = {
        "token": {"id": alert.token.public_id, "nickname": alert.token.nickname},
        "percent": alert.percent,
        "creditsUsed": alert.used,
        "coreCreditLimit": alert.credit_limit,
        "month": f"{alert.month:%Y-%m}",
        "resetsAt": mail.resets_at(alert).strftime("%Y-%m-%dT%H:%M:%SZ"),
    }
    body = webhooks.document("credits.alert", alert.pk, alert.token.workspace.name, alert.reached_at, data)
    return Message(alert.pk, webhook.workspace_id, webhook.url, body, secret, now)


def _note(message: Message, alert_id: str, fault: str) -> None:
    now = database_now()
    if not fault:
        CreditAlert.objects.filter(pk=alert_id).update(posted_at=now)
    # Only for this address: it may have been changed meanwhile.
    Webhook.objects.filter(workspace_id=message.workspace_id, url=message.url).update(
        tried_at=now, fault=fault[:FAULT_MAX]
    )
