"""How long do pages with usage take after a year? `python -m benchmarks.usage`.

50 tokens called three datasets each minute of a year, with two outcomes, in a database of its own: kept by
the minute for three hours, by the hour for five weeks, by the day before, as roll_up() leaves it. Each page
is asked for five times by a person who is signed in.
"""

import os
import statistics
import time

import django

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "tests.settings")
django.setup()

from django.db import connection  # noqa: E402  The models are ready first.
from django.test import Client  # noqa: E402
from django.test.utils import setup_databases, teardown_databases  # noqa: E402

from apperate.accounts.models import Role, Workspace  # noqa: E402
from tests.support.factories import DatasetFactory, MembershipFactory, TokenFactory  # noqa: E402
from tokens.usage.periods import PERIODS  # noqa: E402

TOKENS, DATASETS, TIMES = 50, 3, 5
FILL = """
INSERT INTO tokens_usagecounter
       (token_id, dataset_id, operation, outcome, minute, calls, records, credits, core_credits, is_demo)
SELECT t.id, d.id, 'read', o.outcome, m.minute, 7, 7, 0, 0, false
  FROM tokens_token t, datasets_dataset d, (VALUES ('ok'), ('domain-not-allowed')) o (outcome),
       generate_series(date_trunc(%(unit)s, now() - %(first)s::interval, 'UTC'),
                       date_trunc(%(unit)s, now() - %(last)s::interval, 'UTC'), %(step)s::interval) m (minute)
 WHERE t.workspace_id = %(workspace)s AND d.workspace_id = %(workspace)s
 ORDER BY m.minute, t.id
ON CONFLICT DO NOTHING
"""
SPANS = (
    ("day", "365 days", "35 days", "1 day"),
    ("hour", "35 days", "3 hours", "1 hour"),
    ("minute", "3 hours", "0 days", "1 minute"),
)


def main() -> None:
    databases = setup_databases(verbosity=0, interactive=False)
    try:
        workspace = MembershipFactory(role=Role.PRIMARY).workspace
        TokenFactory.create_batch(TOKENS, workspace=workspace)
        DatasetFactory.create_batch(DATASETS, workspace=workspace)
        print(f"{TOKENS} tokens, {DATASETS} datasets, a year: {fill(workspace):,} counters", flush=True)
        ask(workspace)
    finally:
        teardown_databases(databases, verbosity=0)


def fill(workspace: Workspace) -> int:
    rows = 0
    with connection.cursor() as cursor:
        for unit, first, last, step in SPANS:
            given = {"unit": unit, "first": first, "last": last, "step": step, "workspace": workspace.pk}
            cursor.execute(FILL, given)
            rows += cursor.rowcount
        cursor.execute("ANALYZE tokens_usagecounter, tokens_token")
    return rows


def ask(workspace: Workspace) -> None:
    client = Client()
    client.force_login(workspace.memberships.get().user)
    token, dataset = workspace.tokens.all()[0], workspace.datasets.all()[0]
    pages = {f"usage of all, {period}": f"/tokens/usage/?period={period}" for period in PERIODS}
    pages |= {
        f"usage of one token, {period}": f"/tokens/usage/?period={period}&token={token.public_id}"
        for period in PERIODS
    }
    pages |= {
        "tokens": "/tokens/",
        "a token": f"/tokens/{token.public_id}/",
        "a dataset": f"/datasets/{dataset.name}/",
    }
    for name, address in pages.items():
        taken = []
        for _ in range(TIMES):
            started = time.perf_counter()
            answer = client.get(address)
            taken.append((time.perf_counter() - started) * 1e3)
            assert answer.status_code == 200, (address, answer.status_code)
        print(f"{name}: median {statistics.median(taken):.0f} ms", flush=True)


if __name__ == "__main__":
    main()
