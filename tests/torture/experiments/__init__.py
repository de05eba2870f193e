"""The experiments, one module for each kind of fault; importing this package fills the list of them.

Each is a function of a `Trial` (tests/torture/trial.py) under the id that the report has it by. It is used
by `make torture` and by the short form in tests/torture/test_short.py alone.
"""

from tests.torture.experiments import (
    clocks,
    connections,
    credit,
    databases,
    disks,
    limits,
    network,
    starts,
    steady,
    workers,
)

__all__ = [
    "clocks",
    "connections",
    "credit",
    "databases",
    "disks",
    "limits",
    "network",
    "starts",
    "steady",
    "workers",
]
