"""The installed clients, each in a process of its own that runs calls one after the other."""

import json
import os
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
FOLDER = HERE.parent.parent / ".clients"
PYTHON = FOLDER / "python" / "bin" / "python"


@dataclass
class Outcome:
    """What a call gave its caller: a value, or the words of an error."""

    value: Any = None
    error: str | None = None


class Program:
    """A program that uses a client."""

    def __init__(self, *command: str | Path) -> None:
        assert (FOLDER / "installed").exists(), "the clients are not installed: run `make clients`"
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment(), cwd=FOLDER
        )

    def run(self, code: str) -> Outcome:
        assert self.process.stdin and self.process.stdout
        self.process.stdin.write(json.dumps({"code": code}) + "\n")
        self.process.stdin.flush()
        line = self.process.stdout.readline()
        assert line, "the program of the client ended"
        return Outcome(**json.loads(line))

    def close(self) -> None:
        assert self.process.stdin and self.process.stdout
        self.process.stdin.close()
        self.process.stdout.close()
        self.process.wait(timeout=10)


def environment() -> dict[str, str]:
    """Without what would send the calls elsewhere, or give them another token."""
    return {
        name: value
        for name, value in os.environ.items()
        if not name.lower().endswith("_proxy") and not name.startswith("IEX_")
    }


def javascript(build: str) -> Program:
    """iexjs; `build` is cjs, which Node takes, or esm, which browsers and bundlers take."""
    return Program("node", HERE / "driver.mjs", FOLDER, build)


def python() -> Program:
    return Program(PYTHON, HERE / "driver.py")
