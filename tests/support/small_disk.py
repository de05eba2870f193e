"""A small file system of its own, to be filled."""

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


def become() -> list[str]:
    """What makes a command root's."""
    return [] if os.geteuid() == 0 else ["sudo", "-n"]


def may_mount() -> bool:
    """Whether this process is root, or may become root without a word, and root may mount here."""
    try:
        with small_disk(1):
            return True
    except OSError:
        return False


@contextmanager
def small_disk(size_mb: int) -> Iterator[Path]:
    """In memory; root mounts it, or whoever may become root without a word. Raises OSError if nobody may."""
    if become() and not shutil.which("sudo"):
        raise OSError("A file system is to be mounted for this test by root, and there is no sudo.")
    folder = Path(tempfile.mkdtemp(prefix="apperate-disk-"))
    options = f"size={size_mb}m,mode=755,uid={os.geteuid()}"
    mounted = subprocess.run(
        [*become(), "mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    if mounted.returncode:
        folder.rmdir()
        raise OSError(f"A file system is to be mounted for this test, as root or by sudo: {mounted.stderr}")
    try:
        yield folder
    finally:
        subprocess.run([*become(), "umount", "-l", str(folder)], check=True)
        folder.rmdir()


def left_mb(place: Path) -> float:
    return shutil.disk_usage(place).free / 1e6
