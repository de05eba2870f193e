"""The file of a backup: a tar that is written and read as a stream, so that neither needs room beside it.

    Writer(out)                       add members; close(manifest) ends the file
    read(path) -> Checked             every byte read, every digest compared; raises Unusable
    dump_parts(path, manifest)        the bytes of the database's dump, compared once more as they pass
    extract(path, manifest, place)    the files of open jobs

The dump is cut into parts, because a member's size stands before it and the dump's is known at its end. The
manifest is the last member: a file without it was cut short.
"""

import hashlib
import io
import re
import tarfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO

from apperate.backup.manifest import Manifest, Unusable

PART_BYTES = 8 << 20
CHUNK_BYTES = 1 << 20
SMALL_BYTES_MAX = 64 << 20
MANIFEST, KEYS, DUMP, JOB_FILES = "manifest.json", "keys.sealed", "database/", "ingest/"
NAME_FORM = re.compile(r"manifest\.json|keys\.sealed|database/\d{8}|ingest/[0-9a-f]{32}/[a-z][a-z.]{0,40}")


class Writer:
    """Writes the members one after the other and remembers what they were."""

    def __init__(self, out: IO[bytes]) -> None:
        self._tar = tarfile.open(fileobj=out, mode="w|", format=tarfile.PAX_FORMAT)  # noqa: SIM115
        self.files: dict[str, dict[str, int | str]] = {}

    def add(self, name: str, data: bytes) -> None:
        self._add(name, io.BytesIO(data), len(data))

    def add_dump(self, out: IO[bytes]) -> None:
        """Add what a program writes, part by part."""
        number = 0
        while part := out.read(PART_BYTES):
            self.add(f"{DUMP}{number:08}", part)
            number += 1

    def add_file(self, name: str, path: Path) -> None:
        with path.open("rb") as file:
            self._add(name, file, path.stat().st_size)

    def close(self, manifest: Manifest) -> Manifest:
        whole = replace(manifest, files=self.files)
        data = whole.as_json()
        self._tar.addfile(_info(MANIFEST, len(data)), io.BytesIO(data))
        self._tar.close()
        return whole

    def _add(self, name: str, file: IO[bytes], size: int) -> None:
        reader = _Digested(file)
        self._tar.addfile(_info(name, size), reader)
        self.files[name] = {"bytes": size, "sha256": reader.digest.hexdigest()}


class _Digested:
    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self.digest = hashlib.sha256()

    def read(self, size: int = -1) -> bytes:
        data = self._file.read(size)
        self.digest.update(data)
        return data


def _info(name: str, size: int) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.size, info.mode = size, 0o600
    return info


@dataclass(frozen=True, slots=True)
class Checked:
    """A backup that was read to its end and is whole."""

    path: Path
    manifest: Manifest
    sealed_keys: bytes | None


def read(path: Path, *, progress: Callable[[int], object] = lambda _: None) -> Checked:
    """Read the whole file and compare each member with the manifest. Raises Unusable."""
    found: dict[str, dict[str, int | str]] = {}
    small: dict[str, bytes] = {}
    with _opened(path) as tar:
        for member in tar:
            if MANIFEST in small:
                raise Unusable(f"{path} goes on after its manifest with {member.name[:80]!r}.")
            file = _content(path, member, tar)
            digest = hashlib.sha256()
            is_small = member.name in {MANIFEST, KEYS}
            if is_small and member.size > SMALL_BYTES_MAX:
                raise Unusable(f"{path}: {member.name} is too large, {member.size:,} bytes.")
            kept = []
            while data := file.read(CHUNK_BYTES):
                digest.update(data)
                progress(len(data))
                if is_small:
                    kept.append(data)
            if is_small:
                small[member.name] = b"".join(kept)
            if member.name in found:
                raise Unusable(f"{path} holds {member.name} twice.")
            found[member.name] = {"bytes": member.size, "sha256": digest.hexdigest()}
    if MANIFEST not in small:
        raise Unusable(f"{path} was cut short: it has no manifest at its end. Take another backup.")
    manifest = Manifest.of(small[MANIFEST])
    del found[MANIFEST]
    if found != manifest.files:
        wrong = [name for name in {*found, *manifest.files} if found.get(name) != manifest.files.get(name)]
        raise Unusable(
            f"{path} is damaged: {', '.join(sorted(wrong)[:3])} is not what the manifest says by its digest. "
            "Take another backup."
        )
    return Checked(path, manifest, small.get(KEYS))


def dump_parts(path: Path, manifest: Manifest) -> Iterator[bytes]:
    """The dump, in order. Raises Unusable when the file was changed since it was checked."""
    with _opened(path) as tar:
        for member in tar:
            if member.name.startswith(DUMP):
                data = _content(path, member, tar).read()
                if hashlib.sha256(data).hexdigest() != manifest.files.get(member.name, {}).get("sha256"):
                    raise Unusable(f"{path} was changed while it was restored.")
                yield data


def extract(path: Path, place: Path) -> int:
    """Write the files of open jobs below the folder, private to this account; how many."""
    count = 0
    with _opened(path) as tar:
        for member in tar:
            if member.name.startswith(JOB_FILES):
                target = place / member.name.removeprefix(JOB_FILES)
                target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
                file = _content(path, member, tar)
                with target.open("wb") as out:
                    target.chmod(0o600)
                    while data := file.read(CHUNK_BYTES):
                        out.write(data)
                count += 1
    return count


@contextmanager
def _opened(path: Path) -> Iterator[tarfile.TarFile]:
    try:
        with path.open("rb") as file, tarfile.open(fileobj=file, mode="r|") as tar:
            yield tar
    except tarfile.TarError as error:
        raise Unusable(f"{path} is no backup of Apperate, or was cut short: {error}.") from None
    except OSError as error:
        raise Unusable(f"{path} cannot be read: {error.strerror or error}.") from None


def _content(path: Path, member: tarfile.TarInfo, tar: tarfile.TarFile) -> IO[bytes]:
    """The member's bytes. Names are those that Writer makes, so none leads out of a folder."""
    file = tar.extractfile(member) if member.isreg() else None
    if file is None or not NAME_FORM.fullmatch(member.name):
        raise Unusable(f"{path} is no backup of Apperate: it holds {member.name[:80]!r}.")
    return file
