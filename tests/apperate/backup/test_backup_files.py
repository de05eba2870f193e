"""The file of a backup: what is whole is read, and whatever is not is refused with what is wrong."""

import io
import json
import re
import tarfile
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from apperate.backup import archive, restoring, sealed_keys
from apperate.backup.manifest import FORMAT, Manifest, Unusable, major
from apperate.backup.retention import Keep, seconds_of

MANIFEST = Manifest(
    id="00" * 16, made_at="2026-11-30T12:00:00+00:00", apperate="0.1.0", postgresql="18.6", pg_dump="18.6",
    migrations={"tokens": "0001_initial"}, tables={"records": 3}, keys="sealed", open_jobs=1,
    revocations_until="2026-11-30T11:50:00+00:00",
)  # fmt: skip
JOB = "ab" * 16


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A whole backup with three parts of a dump and one file of a job."""
    monkeypatch.setattr(archive, "PART_BYTES", 1000)
    body = tmp_path / "body"
    body.write_bytes(b"a,b\n1,2\n")
    path = tmp_path / "backup.tar"
    with path.open("wb") as out:
        writer = archive.Writer(out)
        writer.add(archive.KEYS, b"sealed")
        writer.add_dump(io.BytesIO(bytes(range(256)) * 10))
        writer.add_file(f"{archive.JOB_FILES}{JOB}/body", body)
        writer.close(MANIFEST)
    return path


def rewritten(path: Path, change: dict[str, bytes | None], *, after: tuple[str, bytes] | None = None) -> Path:
    """The same tar with members replaced or, for None, left out; `after` is one more at the end."""
    target = path.with_name("changed.tar")
    with tarfile.open(path) as source, tarfile.open(target, "w") as out:
        for member in source:
            data = source.extractfile(member).read()
            new = change.get(member.name, data)
            if new is not None:
                member.size = len(new)
                out.addfile(member, io.BytesIO(new))
        if after:
            info = tarfile.TarInfo(after[0])
            info.size = len(after[1])
            out.addfile(info, io.BytesIO(after[1]))
    return target


def test_what_was_written_is_read_again(file: Path, tmp_path: Path) -> None:
    checked = archive.read(file)

    assert replace(checked.manifest, files={}) == MANIFEST
    assert checked.sealed_keys == b"sealed"
    assert b"".join(archive.dump_parts(file, checked.manifest)) == bytes(range(256)) * 10
    assert len([name for name in checked.manifest.files if name.startswith(archive.DUMP)]) == 3
    assert archive.extract(file, tmp_path / "ingest") == 1
    restored = tmp_path / "ingest" / JOB / "body"
    assert restored.read_bytes() == b"a,b\n1,2\n"
    assert restored.stat().st_mode & 0o777 == 0o600


def test_a_file_that_was_cut_short_is_refused_wherever_it_was_cut(file: Path) -> None:
    whole = file.read_bytes()
    with tarfile.open(file) as tar:
        last = tar.getmembers()[-1]
    # What follows the manifest are zeros, which say nothing.
    for kept in (0, 1, 511, 700, 3000, 5000, last.offset, last.offset_data, last.offset_data + last.size - 1):
        file.write_bytes(whole[:kept])

        with pytest.raises(Unusable, match=r"cut short|no backup of Apperate"):
            archive.read(file)


def test_any_byte_that_was_changed_in_a_member_is_found(file: Path) -> None:
    whole = file.read_bytes()
    with tarfile.open(file) as tar:
        spans = [(member.offset_data, member.size) for member in tar if member.name != archive.MANIFEST]
    for offset, size in spans:
        for place in {offset, offset + size // 2, offset + size - 1}:
            damaged = bytearray(whole)
            damaged[place] ^= 1
            file.write_bytes(damaged)
            with pytest.raises(Unusable, match="is damaged"):
                archive.read(file)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"database/00000001": None}, "is damaged: database/00000001"),
        ({"keys.sealed": b"others"}, "is damaged: keys.sealed"),
        ({"manifest.json": None}, "was cut short"),
        ({"manifest.json": b"{"}, "manifest cannot be read"),
        ({"manifest.json": b"[]"}, "manifest cannot be read"),
        ({"manifest.json": json.dumps({"format": FORMAT + 1, "apperate": "9.9"}).encode()}, "format 2.*9.9"),
    ],
    ids=["part gone", "other keys", "no manifest", "no JSON", "no object", "newer format"],
)
def test_a_member_that_is_not_the_manifests_is_refused(
    file: Path, change: dict[str, bytes | None], said: str
) -> None:
    with pytest.raises(Unusable, match=said):
        archive.read(rewritten(file, change))


@pytest.mark.parametrize(
    "name", ["../../etc/cron.d/x", "/etc/passwd", "ingest/../../x", "ingest/" + JOB + "/../x", "other"]
)
def test_a_name_that_leads_elsewhere_is_refused(file: Path, tmp_path: Path, name: str) -> None:
    manifest = archive.read(file).manifest
    hostile = rewritten(file, {"manifest.json": None, f"ingest/{JOB}/body": None}, after=(name, b"x"))

    with pytest.raises(Unusable, match="no backup of Apperate"):
        archive.read(hostile)
    if name.startswith(archive.JOB_FILES):
        with pytest.raises(Unusable, match="no backup of Apperate"):
            archive.extract(hostile, tmp_path / "in")
    assert len(list(archive.dump_parts(hostile, manifest))) == 3
    assert archive.extract(file, tmp_path / "in") == 1
    assert {path.name for path in (tmp_path / "in").rglob("*")} == {JOB, "body"}


def test_a_link_in_the_place_of_a_member_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "link.tar"
    with tarfile.open(path, "w") as out:
        info = tarfile.TarInfo(f"ingest/{JOB}/body")
        info.type, info.linkname = tarfile.SYMTYPE, "/etc/passwd"
        out.addfile(info)

    with pytest.raises(Unusable, match="no backup of Apperate"):
        archive.read(path)


def test_other_files_are_no_backups(tmp_path: Path) -> None:
    (tmp_path / "text").write_text("not a tar " * 200)

    with pytest.raises(Unusable, match="is no backup of Apperate"):
        archive.read(tmp_path / "text")
    with pytest.raises(Unusable, match="cannot be read: No such file"):
        archive.read(tmp_path / "nothing")


def test_a_part_that_changes_between_the_check_and_the_load_is_found(file: Path) -> None:
    checked = archive.read(file)
    changed = rewritten(file, {"database/00000001": b"x" * 1000})

    with pytest.raises(Unusable, match="was changed while"):
        list(archive.dump_parts(changed, checked.manifest))


def test_a_backup_of_newer_code_is_refused_and_one_of_older_code_is_not() -> None:
    newer = replace(MANIFEST, apperate="0.9.0", migrations={"tokens": "0999_later"})

    with pytest.raises(Unusable, match=r"newer Apperate, 0\.9\.0: tokens 0999_later is not known"):
        restoring.refuse_newer(newer)
    restoring.refuse_newer(MANIFEST)


@pytest.mark.parametrize(
    ("version", "expected"), [("18.6", 18), ("15.18 (Debian 15.18-0+deb12u1)", 15), ("19beta1", 19), ("", 0)]
)
def test_the_major_version(version: str, expected: int) -> None:
    assert major(version) == expected


# --- sealed keys --------------------------------------------------------------------------------


def test_keys_open_with_their_passphrase_and_their_backup_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sealed_keys, "COST", 1 << 10)  # It is slow on purpose.
    keys = {"secret.keys": "AAAA\n", "session.key": "s"}

    sealed = sealed_keys.seal(keys, "a long passphrase", bound_to="one")

    assert b"AAAA" not in sealed
    assert sealed_keys.unseal(sealed, "a long passphrase", bound_to="one") == keys
    with pytest.raises(Unusable, match="passphrase does not open"):
        sealed_keys.unseal(sealed, "another passphrase", bound_to="one")
    with pytest.raises(Unusable, match="passphrase does not open"):
        sealed_keys.unseal(sealed, "a long passphrase", bound_to="two")


@pytest.mark.parametrize("sealed", [b"", b"{}", b"[1]", b'{"cost": 1e9}', b'{"salt": 3}'])
def test_sealed_keys_that_are_none_are_refused(sealed: bytes) -> None:
    with pytest.raises(Unusable, match="cannot be read"):
        sealed_keys.unseal(sealed, "a long passphrase", bound_to="one")


def test_a_cost_that_would_take_all_memory_is_refused() -> None:
    said = {"cost": 1 << 30, "salt": "AA==", "nonce": "AA==", "sealed": "AA=="}

    with pytest.raises(Unusable, match="cannot be read"):
        sealed_keys.unseal(json.dumps(said).encode(), "a long passphrase", bound_to="one")


def test_keys_come_from_the_environment_or_their_files(tmp_path: Path) -> None:
    (tmp_path / "secret.keys").write_text("of the file")
    (tmp_path / "session.key").write_text("of the file")

    found = sealed_keys.collect({"APPERATE_SECRET_KEYS": "k1,k2"}, tmp_path)

    assert found == {"secret.keys": "k1,k2", "session.key": "of the file"}


def test_a_passphrase_file(tmp_path: Path) -> None:
    path = tmp_path / "passphrase"
    path.write_text("a long passphrase\r\nand more\n")
    assert sealed_keys.read_passphrase(path) == "a long passphrase"

    path.write_text("short\n")
    with pytest.raises(Unusable, match="has 5 characters"):
        sealed_keys.read_passphrase(path)
    path.write_bytes(b"\xff" * 30)
    with pytest.raises(Unusable, match="not text in UTF-8"):
        sealed_keys.read_passphrase(path)
    with pytest.raises(Unusable, match="cannot be read: No such file"):
        sealed_keys.read_passphrase(tmp_path / "nothing")


# --- which stay ---------------------------------------------------------------------------------

NOW = datetime(2026, 11, 30, 12, tzinfo=UTC)


def test_the_newest_of_each_period_stays() -> None:
    every_six_hours = [NOW - timedelta(hours=6 * number) for number in range(4 * 365)]

    kept = sorted(Keep.of("7d4w6m").chosen(every_six_hours), reverse=True)

    days = [at for at in kept if at > NOW - timedelta(days=7)]
    assert kept[0] == NOW and len(days) == 7
    assert {at.date() for at in days} == {(NOW - timedelta(days=n)).date() for n in range(7)}
    # The last moment of each of the four weeks and six months that are there.
    assert len({at.isocalendar()[:2] for at in kept if at > NOW - timedelta(days=28)}) >= 4
    assert len({(at.year, at.month) for at in kept}) == 6
    assert len(kept) <= 7 + 4 + 6


def test_applied_again_and_again_it_keeps_what_it_would_keep_of_all() -> None:
    """Removing at each backup loses nothing that a later rule would have kept."""
    keep, there, ever = Keep.of("3d2w2m"), set(), []
    for number in range(4 * 120):
        at = NOW + timedelta(hours=6 * number)
        ever.append(at)
        there = keep.chosen({*there, at})
        assert at in there

    assert there == keep.chosen(ever)


def test_the_newest_stays_whatever_the_rule_says_and_nothing_is_kept_of_nothing() -> None:
    old = datetime(2001, 1, 1, tzinfo=UTC)

    assert Keep.of("1y").chosen([old]) == {old}
    assert Keep.of("1h").chosen([]) == set()


@pytest.mark.parametrize("text", ["", "7", "d", "7d 4w", "0d", "7x", "-1d", "7D", "99999d"])
def test_a_rule_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(Unusable, match=re.escape(f"--keep {text!r} does not say")):
        Keep.of(text)


def test_lengths_of_time() -> None:
    assert [seconds_of(text, "X") for text in ("30m", "6h", "1d")] == [1800, 21600, 86400]
    for text in ("", "6", "h", "0h", "1.5h", "1w", "6 h"):
        with pytest.raises(Unusable, match="X .* is no time"):
            seconds_of(text, "X")
