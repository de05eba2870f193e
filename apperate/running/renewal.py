"""A rolling restart: new processes take over before the old ones end, and a changed checkout is picked up.

renewed(children, leaving, …)     an iterator; each step is a short one, so that the rest is watched meanwhile
"""

import subprocess
import tempfile
import time
from collections.abc import Callable, Generator, Mapping, Sequence
from pathlib import Path

from apperate.running.supervisor import Child, ChildFailed, die_with_parent

READY_SECONDS_MAX = 60
REASON_CHARS_MAX = 400


def prepared(command: Sequence[str], environment: Mapping[str, str], directory: Path) -> Generator[None]:
    """Run a command of the new version to its end. Raises ChildFailed with its last line if it fails."""
    with tempfile.TemporaryFile() as said:
        process = subprocess.Popen(  # noqa: S603, the command is made by the supervisor
            command, env=dict(environment), cwd=directory, stdin=subprocess.DEVNULL, stderr=said,
            preexec_fn=die_with_parent,  # noqa: PLW1509, the supervisor has one thread
        )  # fmt: skip
        try:
            while process.poll() is None:
                yield
        finally:
            if process.poll() is None:
                process.kill()
                process.wait()
        said.seek(0)
        lines = said.read().decode(errors="replace").strip().splitlines()
    if process.returncode:
        reason = lines[-1][:REASON_CHARS_MAX] if lines else f"it ended with exit code {process.returncode}"
        raise ChildFailed(f"the new version cannot be prepared: {reason}")


def renewed(
    children: list[Child],
    leaving: list[Child],
    *,
    preparation: Generator[None],
    successors: Callable[[], Sequence[Child]],
) -> Generator[None]:
    """Prepare, start the successors, and when they serve ask the children to leave.

    Afterwards `children` holds the successors. Raises ChildFailed when a successor does not start, and then
    nothing has changed.
    """
    yield from preparation
    started: list[Child] = []
    try:
        deadline = time.monotonic() + READY_SECONDS_MAX
        # One after the other: background work begins only when the server of its version serves.
        for child in successors():
            started.append(child)
            child.start()
            while not child.has_reported():
                if not child.is_running():
                    raise ChildFailed(child.how_it_ended())
                if time.monotonic() > deadline:
                    raise ChildFailed(f"{child.name} of the new version did not answer in time")
                yield
            child.is_ready = True
    except BaseException:
        for child in started:
            child.kill()
        raise
    for old in children:
        old.send(old.leave_signal)
    leaving += children
    children[:] = started
