"""A worker's own copies of the product's modules, as a process has them: nothing is shared but what is pure.

    copies = Copies(time)                      time: what these modules get for `import time`
    copies["tokens.gate.leases"].leases        the lease book of this worker

A copy is the product's source, executed anew. A planted bug is the same source with one piece replaced.
"""

import builtins
import importlib
import importlib.util
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import CodeType, ModuleType, SimpleNamespace
from typing import Any

# What holds state, and what imports it.
COPIED = frozenset(
    [
        f"apperate.database.{name}"
        for name in ("background", "changes", "flights", "follower", "outage", "pool")
    ]
    + [
        f"tokens.gate.{name}"
        for name in (
            "access", "answers", "authentication", "calls", "credits", "endpoint", "failed_values", "leases",
            "payment", "refusal_log", "signed_requests", "snapshots", "throttling",
        )
    ]
    + ["tokens.metering.journal", "tokens.metering.meter"]
)  # fmt: skip


@dataclass(frozen=True)
class Bug:
    """A piece of a module's source, which stands there once, and what is planted in its place."""

    module: str
    right: str
    wrong: str


@cache
def code_of(module: str, bug: Bug | None) -> CodeType:
    found = importlib.util.find_spec(module)
    assert found is not None and found.origin is not None
    source = Path(found.origin).read_text(encoding="utf-8")
    if bug is not None:
        assert source.count(bug.right) == 1, f"{bug.right!r} does not stand once in {module}"
        source = source.replace(bug.right, bug.wrong)
    return compile(source, found.origin, "exec")


class Copies:
    """The modules by name, each executed when it is first asked for."""

    def __init__(self, time: Any, bugs: tuple[Bug, ...] = ()) -> None:
        self._time = time
        self._bugs = {bug.module: bug for bug in bugs}
        self._modules: dict[str, ModuleType] = {}
        self._builtins = {**vars(builtins), "__import__": self._import}

    def __getitem__(self, name: str) -> Any:
        if name not in self._modules:
            module = self._modules[name] = ModuleType(name)
            module.__dict__["__builtins__"] = self._builtins
            exec(code_of(name, self._bugs.get(name)), module.__dict__)  # noqa: S102  the product's own source
        return self._modules[name]

    def _import(
        self, name: str, globals: Any = None, locals: Any = None, fromlist: Any = (), level: int = 0
    ) -> Any:
        if name == "time":
            return self._time
        if name in COPIED:
            return self[name]
        found = builtins.__import__(name, globals, locals, fromlist, level)
        parts = {part: f"{name}.{part}" for part in fromlist or ()}
        if COPIED.isdisjoint(parts.values()):
            return found
        chosen = SimpleNamespace()
        for part, path in parts.items():
            value = self[path] if path in COPIED else getattr(found, part, None)
            setattr(chosen, part, importlib.import_module(path) if value is None else value)
        return chosen
