"""How fast is a warm read, beside the bare database? `python benchmarks/read.py [SECONDS]`.

Starts one server worker on a throw-away data directory with the demo, then measures in one run, with
the same eight concurrent connections, (1) the read's own SQL through psycopg's async pool and
(2) GET /v1/data/DEMO/STOCKS/AAPL?last=1 over kept HTTP connections. What matters is the ratio: both
sides share the machine, and the figures themselves change with it.
"""

import asyncio
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
CLIENTS = 8
PORT = 8791


async def per_second(ask: Callable[[], Awaitable[Callable[[], Awaitable[None]]]], seconds: float) -> float:
    """How many calls a second CLIENTS concurrent callers make; `ask` gives each its own call."""
    calls = [await ask() for _ in range(CLIENTS)]
    for call in calls:
        await call()
    done = 0
    end = time.monotonic() + seconds

    async def work(call: Callable[[], Awaitable[None]]) -> None:
        nonlocal done
        while time.monotonic() < end:
            await call()
            done += 1

    await asyncio.gather(*(work(call) for call in calls))
    return done / seconds


async def http_caller(target: str) -> Callable[[], Awaitable[None]]:
    reader, writer = await asyncio.open_connection("127.0.0.1", PORT)
    request = f"GET {target} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n".encode()

    async def call() -> None:
        writer.write(request)
        head = await reader.readuntil(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 200"), head
        length = int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
        await reader.readexactly(length)

    return call


async def measure(facts: dict[str, str], seconds: float) -> None:
    sys.path.insert(0, str(ROOT))
    os.environ["DJANGO_SETTINGS_MODULE"] = "apperate.settings"
    import django

    django.setup()
    from datetime import UTC, datetime

    from apperate.database import pool
    from datasets.query import parsing
    from datasets.storage import catalog, reads

    dataset = await catalog.find("DEMO", "STOCKS", fresh=True)
    assert dataset is not None
    asked = parsing.parse([("last", "1")], dataset.schema, now=datetime.now(UTC), path_key="AAPL")
    assert isinstance(asked, parsing.Query)
    statement, parameters = reads.read_statement(dataset, asked)
    connections = pool.Kind("benchmark", CLIENTS)

    async def database_caller() -> Callable[[], Awaitable[None]]:
        async def call() -> None:
            rows = await pool.fetch_all(statement, parameters, of=connections)
            assert len(rows) == 1

        return call

    target = f"/v1/data/DEMO/STOCKS/AAPL?last=1&token={facts['publishable_token']}"
    figures: dict[str, list[float]] = {"database": [], "http": []}
    for _ in range(3):
        figures["database"].append(await per_second(database_caller, seconds))
        figures["http"].append(await per_second(lambda: http_caller(target), seconds))
    await pool.pools.close()
    database, http = max(figures["database"]), max(figures["http"])
    print(f"bare SQL {database:,.0f}/s   HTTP {http:,.0f}/s   ratio {http / database:.2f}")


def main() -> None:
    seconds = float(sys.argv[1]) if len(sys.argv) > 1 else 3.0
    with tempfile.TemporaryDirectory(prefix="apperate-bench-") as folder:
        os.environ |= {"APPERATE_DATA_DIR": folder, "PORT": str(PORT), "APPERATE_WORKERS": "1"}
        server = subprocess.Popen(
            [sys.executable, "manage.py", "up"], cwd=ROOT, stdout=subprocess.PIPE, text=True
        )
        try:
            assert server.stdout is not None
            for line in server.stdout:
                if "Ctrl-C" in line:
                    break
            told = subprocess.run(
                [sys.executable, "manage.py", "demo", "--json"],
                cwd=ROOT,
                capture_output=True,
                text=True,
                check=True,
            )
            asyncio.run(measure(json.loads(told.stdout), seconds))
        finally:
            server.terminate()
            server.wait(timeout=30)


if __name__ == "__main__":
    main()
