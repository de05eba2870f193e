"""S04, S08: what no code of the product does, held by reading all of it.

What must not be guessed comes from the system's source of chance, and is compared in constant time.
"""

import ast
import re
from collections.abc import Iterator

import pytest

from tests.support.installation import ROOT

SOURCES = {
    str(path.relative_to(ROOT)): ast.parse(path.read_text())
    for app in ("apperate", "datasets", "tokens")
    for path in sorted((ROOT / app).rglob("*.py"))
    if "migrations" not in path.parts
}
SECRET_NAMES = re.compile(r"(?:^|_)(?:signature|digest|hexdigest|secret|hmac|mac|password|otp)(?:$|_)")
# Compared with what whoever asks cannot choose: files and rows of ours, a digest that an operator has noted.
COMPARED = {
    ("apperate/database/sealing.py", "hashlib.sha256(value.encode()).digest() != bytes(digest)"),
    ("apperate/accounts/audit/chain.py", "digest_of(one.previous, one.position, one.columns) != one.digest"),
    ("apperate/management/commands/up.py", "stamp.read_text() == digest.hexdigest()"),
    ("apperate/accounts/audit/chain.py", "end_digest != last"),
    (
        "apperate/backup/archive.py",
        "hashlib.sha256(data).hexdigest() != manifest.files.get(member.name, {}).get('sha256')",
    ),
}
# What is made up for the demo; the names of messages and of what is written once, which are no secrets.
CHANCE = {"apperate/demo/usage.py"}
UUIDS = {
    "tokens/alert_models.py", "tokens/alerts/telling.py", "tokens/alerts/webhook_settings.py",
    "tokens/alerts/webhooks.py", "tokens/gate/leases.py", "tokens/metering/journal.py",
    "tokens/metering/meter.py",
}  # fmt: skip
BYTES_MIN = 16
# The id of a request and the name of a draft, which open nothing; the nonce of AES-GCM, which has 96 bits.
SHORT = {
    ("apperate/backup/sealed_keys.py", "secrets.token_bytes(12)"),
    ("apperate/http/middleware.py", "secrets.token_hex(8)"),
    ("apperate/kernel/keyring.py", "secrets.token_hex(8)"),
}


def named(node: ast.expr) -> str:
    """The last name of an expression: of `a.b` and of `a.b()` it is b."""
    if isinstance(node, ast.Call):
        return named(node.func)
    return node.attr if isinstance(node, ast.Attribute) else getattr(node, "id", "")


def comparisons(tree: ast.Module) -> Iterator[str]:
    """What compares by == or != something that is named like a secret."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Compare) and any(isinstance(one, ast.Eq | ast.NotEq) for one in node.ops):
            sides = [node.left, *node.comparators]
            if any(SECRET_NAMES.search(named(side)) for side in sides):
                yield ast.unparse(node)


@pytest.mark.check("S08")
def test_secrets_are_compared_in_constant_time() -> None:
    found = {(file, text) for file, tree in SOURCES.items() for text in comparisons(tree)}

    assert found == COMPARED


@pytest.mark.check("S08")
@pytest.mark.parametrize(
    "source",
    ["signature == sent", "a.digest != b", "hmac.new(k, m).hexdigest() == sent", "given == self.own_secret"],
)
def test_the_rule_of_comparisons_finds_what_it_is_for(source: str) -> None:
    assert list(comparisons(ast.parse(source))) == [source]
    assert list(comparisons(ast.parse("hmac.compare_digest(signature, sent)\ndigest_kind == 'x'"))) == [
        "digest_kind == 'x'"
    ]


def imported(tree: ast.Module) -> set[str]:
    """The modules that are imported anywhere in a file."""
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found.add(node.module or "")
    return found


@pytest.mark.check("S04")
def test_nothing_but_the_demo_draws_by_chance_that_can_be_guessed() -> None:
    assert {file for file, tree in SOURCES.items() if "random" in imported(tree)} == CHANCE
    assert {file for file, tree in SOURCES.items() if "uuid" in imported(tree)} == UUIDS
    assert "secrets" in imported(SOURCES["tokens/rules/token_format.py"])


@pytest.mark.check("S04")
def test_what_is_drawn_has_128_bits() -> None:
    drawn = {
        (file, ast.unparse(node), ast.literal_eval(node.args[0]) if node.args else BYTES_MIN)
        for file, tree in SOURCES.items()
        for node in ast.walk(tree)
        if isinstance(node, ast.Call)
        and ast.unparse(node.func).startswith(("secrets.token_", "os.urandom"))
        and (not node.args or isinstance(node.args[0], ast.Constant))
    }

    assert len(drawn) > 3
    assert {(file, text) for file, text, size in drawn if size < BYTES_MIN} == SHORT
