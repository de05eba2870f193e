"""S02: secrets at rest decrypt only unchanged, in their own row, under their own key."""

import base64
import os
import stat
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from apperate.kernel import keyring
from apperate.kernel.keyring import KEY_FILE, KEYS_VARIABLE, BadKeys, KeyRing, UnreadableSecret, load, new_key

OLD_KEY, NEW_KEY, OTHER_KEY = b"o" * 32, b"n" * 32, b"x" * 32
PLAIN = "sk_3f9c1d7e52a04b6f8d21c0a79be453160199aa18"
ROOT = Path(__file__).resolve().parents[3]


@given(st.text(st.characters(exclude_categories=["Cs"]), max_size=200), st.text("abc:0123", max_size=20))
def test_decrypt_gives_back_what_was_encrypted(plain: str, bound_to: str) -> None:
    ring = KeyRing([OLD_KEY])

    blob = ring.encrypt(plain, bound_to=bound_to)

    assert ring.decrypt(blob, bound_to=bound_to) == plain
    assert ring.decrypt(memoryview(blob), bound_to=bound_to) == plain


def test_the_plain_text_is_not_in_the_blob_and_no_two_blobs_are_alike() -> None:
    ring = KeyRing([OLD_KEY])

    blobs = {ring.encrypt(PLAIN, bound_to="secret:1") for _ in range(1_000)}

    assert len(blobs) == 1_000
    assert not any(PLAIN[3:11].encode() in blob for blob in blobs)


@pytest.mark.check("S02")
def test_nonces_are_unique_over_100_000_writes() -> None:
    ring = KeyRing([OLD_KEY])

    assert len({ring.encrypt("", bound_to="")[5:17] for _ in range(100_000)}) == 100_000


@pytest.mark.check("S02")
def test_any_flipped_byte_is_refused() -> None:
    ring = KeyRing([OLD_KEY])
    blob = ring.encrypt(PLAIN, bound_to="secret:1")

    for position in range(len(blob)):
        for mask in (0x01, 0x80, 0xFF):
            changed = bytearray(blob)
            changed[position] ^= mask
            with pytest.raises(UnreadableSecret) as caught:
                ring.decrypt(bytes(changed), bound_to="secret:1")
            assert PLAIN not in str(caught.value)


def test_any_other_length_is_refused() -> None:
    ring = KeyRing([OLD_KEY])
    blob = ring.encrypt(PLAIN, bound_to="secret:1")

    for changed in [blob[:length] for length in range(len(blob))] + [blob + b"\x00", blob * 2]:
        with pytest.raises(UnreadableSecret):
            ring.decrypt(changed, bound_to="secret:1")


@pytest.mark.check("S02")
@pytest.mark.parametrize("bound_to", ["secret:2", "secret:11", "secret:", "", "SECRET:1"])
def test_a_secret_moved_to_another_row_is_refused(bound_to: str) -> None:
    ring = KeyRing([OLD_KEY])

    with pytest.raises(UnreadableSecret, match="another row"):
        ring.decrypt(ring.encrypt(PLAIN, bound_to="secret:1"), bound_to=bound_to)


def test_a_secret_under_an_unknown_key_says_which_key_to_bring_back() -> None:
    blob = KeyRing([OLD_KEY]).encrypt(PLAIN, bound_to="secret:1")

    with pytest.raises(UnreadableSecret, match=KEYS_VARIABLE):
        KeyRing([OTHER_KEY]).decrypt(blob, bound_to="secret:1")


def test_after_rotation_the_first_key_encrypts_and_the_old_one_still_decrypts() -> None:
    before, during, after = KeyRing([OLD_KEY]), KeyRing([NEW_KEY, OLD_KEY]), KeyRing([NEW_KEY])
    old = before.encrypt(PLAIN, bound_to="secret:1")

    renewed = during.encrypt(during.decrypt(old, bound_to="secret:1"), bound_to="secret:1")

    assert during.needs_rotation(old)
    assert not during.needs_rotation(renewed)
    assert after.decrypt(renewed, bound_to="secret:1") == PLAIN
    with pytest.raises(UnreadableSecret):
        after.decrypt(old, bound_to="secret:1")


@pytest.mark.parametrize("keys", [[], [b"short"], [OLD_KEY, b"n" * 31], [b"n" * 33]])
def test_a_key_ring_refuses_keys_of_another_length(keys: list[bytes]) -> None:
    with pytest.raises(BadKeys):
        KeyRing(keys)


# --- where the keys come from ---


def test_load_takes_the_environment_before_the_file(tmp_path: Path) -> None:
    first, second = new_key(), new_key()

    ring = load({KEYS_VARIABLE: f" {first} , {second} "}, tmp_path)

    blob = KeyRing([base64.b64decode(second)]).encrypt(PLAIN, bound_to="1")
    assert ring.decrypt(blob, bound_to="1") == PLAIN
    assert ring.needs_rotation(blob)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (",", "holds no key"),
        ("not base64!", "Key 1 of"),
        ("AAAA", "Key 1 of"),
        (base64.b64encode(b"k" * 32).decode() + ",AAAA", "Key 2 of"),
        ("é" * 44, "Key 1 of"),
    ],
)
def test_load_refuses_bad_keys_without_printing_them(value: str, words: str, tmp_path: Path) -> None:
    with pytest.raises(BadKeys, match=words) as caught:
        load({KEYS_VARIABLE: value}, tmp_path)

    assert "openssl rand -base64 32" in str(caught.value)
    assert value.rpartition(",")[2] == "" or value.rpartition(",")[2] not in str(caught.value)


def test_load_makes_a_key_file_that_only_its_owner_reads_and_keeps_it(tmp_path: Path) -> None:
    umask = os.umask(0)
    try:
        blob = load({}, tmp_path / "var").encrypt(PLAIN, bound_to="1")
    finally:
        os.umask(umask)

    path = tmp_path / "var" / KEY_FILE
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [found.name for found in path.parent.iterdir()] == [KEY_FILE]
    assert load({KEYS_VARIABLE: ""}, path.parent).decrypt(blob, bound_to="1") == PLAIN


def test_load_reads_a_key_file_of_several_lines(tmp_path: Path) -> None:
    path = tmp_path / KEY_FILE
    path.write_bytes(base64.b64encode(NEW_KEY) + b"\n" + base64.b64encode(OLD_KEY) + b"\n")
    path.chmod(0o600)

    ring = load({}, tmp_path)

    assert ring.decrypt(KeyRing([OLD_KEY]).encrypt(PLAIN, bound_to="1"), bound_to="1") == PLAIN


@pytest.mark.parametrize("content", [b"", b"\n", b"rubbish\n", b"\xff\xfe" * 40])
def test_load_refuses_a_damaged_key_file_and_leaves_it_as_it_is(content: bytes, tmp_path: Path) -> None:
    """A new key in place of a damaged one would make every stored secret unreadable for good."""
    path = tmp_path / KEY_FILE
    path.write_bytes(content)
    path.chmod(0o600)

    with pytest.raises(BadKeys, match=KEY_FILE):
        load({}, tmp_path)

    assert path.read_bytes() == content


def test_load_refuses_a_key_file_that_others_can_read(tmp_path: Path) -> None:
    load({}, tmp_path)
    (tmp_path / KEY_FILE).chmod(0o640)

    with pytest.raises(BadKeys, match="chmod 600"):
        load({}, tmp_path)


def test_processes_that_start_at_once_agree_on_one_key(tmp_path: Path) -> None:
    program = (
        "import pathlib, sys; from apperate.kernel.keyring import load; "
        "ring = load({}, pathlib.Path(sys.argv[1])); "
        "sys.stdout.buffer.write(ring.encrypt('same', bound_to='1'))"
    )

    def start(_: int) -> bytes:
        return subprocess.run(
            [sys.executable, "-c", program, str(tmp_path)], cwd=ROOT, capture_output=True, check=True
        ).stdout

    with ThreadPoolExecutor(6) as pool:
        blobs = list(pool.map(start, range(6)))

    ring = load({}, tmp_path)
    assert {ring.decrypt(blob, bound_to="1") for blob in blobs} == {"same"}
    assert [found.name for found in tmp_path.iterdir()] == [KEY_FILE]


def test_a_file_made_meanwhile_by_another_process_is_never_replaced(tmp_path: Path) -> None:
    path = tmp_path / KEY_FILE
    path.write_text("first\n", encoding="ascii")

    keyring._create_key_file(path)

    assert path.read_text(encoding="ascii") == "first\n"
    assert [found.name for found in tmp_path.iterdir()] == [KEY_FILE]
