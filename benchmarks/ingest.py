"""What ingesting a file costs: rows a second, and the most memory the worker process took.

    python -m benchmarks.ingest FILE [--key COLUMN --subkey COLUMN --date COLUMN] [--kill]
    python -m benchmarks.ingest --rows 2000000          a made-up CSV of that many rows

An installation of its own is started with `manage.py up`, the file goes in through POST /v1/data, and the
counts of the job are printed. With --kill the worker is killed with SIGKILL in the middle, what the dataset
holds then is printed, and the job goes on by itself.
"""

import argparse
import gzip
import http.client
import json
import os
import signal
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests.support.installation import Demo, started

POLL_SECONDS = 0.05
SAMPLED_LINES = 100_000


def made_up(path: Path, rows: int) -> None:
    """A CSV of prices: a key, a date, and three values."""
    with path.open("w") as file:
        file.write("ticker,date,close,volume,note\n")
        for number in range(rows):
            day, ticker = divmod(number, 1_000)
            file.write(f"T{ticker:04},{1960 + day // 336}-{day // 28 % 12 + 1:02}-{day % 28 + 1:02},")
            file.write(f"{number * 7 % 10_000 / 100},{number},note {number % 97}\n")


class Client:
    def __init__(self, demo: Demo) -> None:
        self.demo = demo
        self.headers = {"X-API-Key": demo.facts["secret_token"]}

    def ask(self, method: str, path: str, body: Any = None) -> Any:
        connection = http.client.HTTPConnection("127.0.0.1", self.demo.port, timeout=600)
        connection.request(method, path, body=body, headers=self.headers)
        answer = connection.getresponse()
        text = answer.read()
        connection.close()
        if answer.status != 200:
            raise SystemExit(f"{method} {path}: {answer.status} {text.decode()}")
        return json.loads(text)

    def job(self, url: str) -> dict[str, Any]:
        found = self.ask("GET", url)
        document: dict[str, Any] = found[0] if isinstance(found, list) else found
        return document


def workers(demo: Demo) -> list[int]:
    """The processes that run jobs."""
    return demo.pids("worker")


def memory_bytes(pid: int) -> int:
    """The most memory a process ever had (VmHWM)."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM")), 0)


def watched(client: Client, url: str, *, kills: bool) -> Iterator[str]:
    """Follow a job to its end; lines to print."""
    begun, highest, killed = time.monotonic(), 0, not kills
    while True:
        job = client.job(url)
        for pid in workers(client.demo):
            try:
                highest = max(highest, memory_bytes(pid))
            except OSError:
                continue
        if not killed and 0.2 < (job.get("progress") or 0) < 0.9:
            for pid in workers(client.demo):
                os.kill(pid, signal.SIGKILL)
            killed = True
            yield f"killed the worker at {job['progress']:.0%}"
            held = client.ask("GET", f"/v1/datasets/DEMO/{job['datasetId']}")
            yield f"the dataset holds {held['records']:,} records"
        if job["status"] in ("INGESTED", "ERROR", "CANCELLED"):
            break
        time.sleep(POLL_SECONDS)
    seconds = time.monotonic() - begun
    yield json.dumps(job, indent=1)
    yield f"{seconds:.1f} s, worker memory at most {highest / 1e6:,.0f} MB"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("file", nargs="?", type=Path)
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--key")
    parser.add_argument("--subkey")
    parser.add_argument("--date")
    parser.add_argument("--broken", action="store_true", help="break every hundredth line")
    parser.add_argument("--kill", action="store_true")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="apperate-ingest-") as name:
        folder = Path(name)
        path = asked.file
        if path is None:
            path = folder / "rows.csv"
            made_up(path, asked.rows)
        mapping = {role: getattr(asked, role) for role in ("key", "subkey", "date") if getattr(asked, role)}
        print(f"{path.name}: {path.stat().st_size / 1e6:,.1f} MB")
        with started(Demo) as demo:
            run(Client(demo), path, folder, mapping, breaks=asked.broken, kills=asked.kill)


def text_of(path: Path) -> str:
    """A file of text, out of its gzip."""
    data = path.read_bytes()
    return (gzip.decompress(data) if data.startswith(b"\x1f\x8b") else data).decode()


def run(
    client: Client, path: Path, folder: Path, mapping: dict[str, str], *, breaks: bool, kills: bool
) -> None:
    """Make a dataset that fits the file, send it, and follow the job."""
    lines = text_of(path).splitlines()
    sample = "\n".join(lines[:SAMPLED_LINES])
    schema = client.ask("POST", "/v1/generate-schema/DEMO", sample.encode())
    del schema["columnMapping"]
    schema["required"] = list(mapping.values())
    client.ask(
        "POST",
        "/v1/datasets/DEMO",
        json.dumps({"dataset": {"datasetId": "INGESTED", "schema": schema, "columnMapping": mapping}}),
    )
    sent = path
    if breaks:
        sent = folder / "broken.csv"
        # A field too many in every hundredth record; the head is line 1.
        broken = (f"{line},more" if n and n % 100 == 0 else line for n, line in enumerate(lines))
        sent.write_text("\n".join(broken) + "\n")
    with sent.open("rb") as file:
        begun = time.monotonic()
        answer = client.ask("POST", "/v1/data/DEMO/INGESTED", file)
    print(f"{answer['message']} ({time.monotonic() - begun:.1f} s)")
    for line in watched(client, answer["jobUrl"], kills=kills):
        print(line, flush=True)
    if breaks:
        log = http.client.HTTPConnection("127.0.0.1", client.demo.port)
        log.request("GET", answer["jobUrl"] + "/invalid-records-log", headers=client.headers)
        told = [int(row.split(",")[1]) for row in log.getresponse().read().decode().splitlines()[1:]]
        log.close()
        expected = list(range(101, len(lines) + 1, 100))
        print(f"{len(told):,} invalid lines, exactly the broken ones: {told == expected}")
    held = client.ask("GET", "/v1/datasets/DEMO/INGESTED")
    print(f"the dataset holds {held['records']:,} records")


if __name__ == "__main__":
    main()
