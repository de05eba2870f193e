"""What does a token cost that its worker does not know? `python -m benchmarks.many_tokens`.

10,000 tokens × 1,000 datasets, 2,000,000 grants, in a database of its own; each token asks once, so each
request is a cold authorisation. Says how many statements a request took at most, and how long they took in
the database and the whole request in this process.
"""

import os
import statistics
import time

import django

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "tests.settings")
django.setup()

import pytest  # noqa: E402  The models are ready first.
from django.db import connection  # noqa: E402
from django.test.utils import setup_databases, teardown_databases  # noqa: E402

from tests.support.data_plane_client import DataPlaneClient  # noqa: E402
from tests.support.load.many_tokens import Account, fill, statements  # noqa: E402
from tokens.gate.snapshots import LOAD  # noqa: E402
from tokens.rules import token_format  # noqa: E402

TOKENS, DATASETS, GRANTS_EACH = 10_000, 1_000, 200


def main() -> None:
    databases = setup_databases(verbosity=0, interactive=False)
    started = time.monotonic()
    account = fill(tokens=TOKENS, datasets=DATASETS, grants_each=GRANTS_EACH)
    print(f"{TOKENS:,} tokens, {DATASETS:,} datasets, {TOKENS * GRANTS_EACH:,} grants: "
          f"filled in {time.monotonic() - started:.0f} s", flush=True)  # fmt: skip
    api = DataPlaneClient()
    try:
        requests(api, account)
        loads(account)
    finally:
        api.close()
        teardown_databases(databases, verbosity=0)


def requests(api: DataPlaneClient, account: Account) -> None:
    most, taken = 0, []
    with statements(pytest.MonkeyPatch()) as sent:
        for number in range(len(account.values)):
            path = account.path(number, number % GRANTS_EACH)
            sent.clear()
            started = time.perf_counter()
            reply = api.get(path)
            taken.append((time.perf_counter() - started) * 1e3)
            assert reply.status == 200, reply.body
            # Polls come between the requests of one second and another.
            most = max(most, sum("changed_xid >=" not in str(statement) for statement, _ in sent))
    print(f"{len(taken):,} cold requests: at most {most} statements each; {said(taken)}", flush=True)


def loads(account: Account) -> None:
    """The statement that knows a token, as PostgreSQL times it."""
    taken = []
    with connection.cursor() as cursor:
        for value in account.values[::10]:
            given = {"digest": token_format.digest(value), "has_checksum": True}
            cursor.execute(f"EXPLAIN (ANALYZE, FORMAT JSON) {LOAD}", given)
            (plan,) = cursor.fetchone()[0]
            taken.append(plan["Execution Time"] + plan["Planning Time"])
    print(f"the authorising statement in the database, planning included: {said(taken)}", flush=True)


def said(taken: list[float]) -> str:
    cuts = statistics.quantiles(taken, n=100)
    return f"median {cuts[49]:.2f} ms, p99 {cuts[98]:.2f} ms"


if __name__ == "__main__":
    main()
