"""What is stored: the audit log, the secrets, and how much of its plan each workspace uses."""

import os

from django.conf import settings
from django.db import connection

from apperate.accounts.audit import chain
from apperate.accounts.models import Workspace
from apperate.accounts.plans import PLANS
from apperate.doctor.findings import FAIL, OK, WARN, Finding, first_line, some_of
from apperate.kernel import keyring
from datasets.selectors import NEARLY_PERCENT, stored_by
from tokens.models import Secret

SECRETS_TRIED = 1_000
UNLIMITED = [plan.name for plan in PLANS.values() if plan.storage_bytes_max is None]


def audit_log() -> Finding:
    """Is it append-only, by triggers and rights, and does each event match the one before it?"""
    subject = "Audit log"
    with connection.cursor() as cursor:
        cursor.execute(
            """SELECT count(*) FILTER (WHERE tgenabled IN ('O', 'A')),
                      pg_has_role(c.relowner, 'USAGE'),
                      has_table_privilege(c.oid, 'UPDATE, DELETE, TRUNCATE')
                 FROM pg_class c LEFT JOIN pg_trigger t ON t.tgrelid = c.oid AND t.tgname = 'audit_rows_stay'
                WHERE c.oid = 'accounts_auditevent'::regclass GROUP BY c.oid, c.relowner"""
        )
        triggers, owns, may_change = cursor.fetchone()
    if not triggers:
        advice = "Run: ALTER TABLE accounts_auditevent ENABLE TRIGGER USER. Ask who switched it off."
        return Finding(FAIL, subject, "The trigger that keeps its rows is switched off or gone.", advice)
    if may_change and not owns:
        advice = "Run: REVOKE UPDATE, DELETE, TRUNCATE ON accounts_auditevent FROM that role."
        return Finding(WARN, subject, "The role that serves requests has rights to change it.", advice)
    if found := chain.breaks():
        first = found[0]
        name = (
            Workspace.objects.filter(pk=first.chain).values_list("name", flat=True).first() or "No workspace"
        )
        more = f" And {len(found) - 1} more." if len(found) > 1 else ""
        advice = "Compare it with a backup and with exported CSVs; ask who may change the database's tables."
        return Finding(FAIL, subject, f"{name}: {first.words}{more}", advice)
    return Finding(OK, subject, "Its rows stay as they were written.")


def secrets_at_rest() -> Finding:
    """Can the key ring decrypt what is stored?"""
    subject = "Secrets at rest"
    sealed = Secret.objects.filter(ciphertext__isnull=False).select_related("token").order_by("-pk")
    if not os.environ.get(keyring.KEYS_VARIABLE) and not (settings.DATA_DIR / keyring.KEY_FILE).exists():
        if sealed.exists():
            advice = f"Put the file back from a backup, or set {keyring.KEYS_VARIABLE}."
            return Finding(FAIL, subject, f"{keyring.KEY_FILE} is gone from the data directory.", advice)
        return Finding(OK, subject, "There are none yet; a key is made with the first one.")
    try:
        keys = keyring.load(os.environ, settings.DATA_DIR)
    except (keyring.BadKeys, OSError) as error:
        return Finding(FAIL, subject, first_line(error), "Put the keys of this database in place.")
    unreadable = total = 0
    for secret in sealed[:SECRETS_TRIED]:
        total += 1
        try:
            keys.decrypt(secret.ciphertext or b"", bound_to=secret.token.public_id)
        except keyring.UnreadableSecret:
            unreadable += 1
    if unreadable:
        return Finding(
            FAIL,
            subject,
            f"{unreadable} of {total} secrets were encrypted under another key and cannot be shown.",
            f"Put the old key beside the new ones ({keyring.KEYS_VARIABLE} or the key file).",
        )
    return Finding(OK, subject, f"{total} secrets can be decrypted.")


def storage() -> Finding:
    """Has any workspace nearly used up its plan?"""
    found = []
    for workspace in Workspace.objects.exclude(plan__in=UNLIMITED).order_by("name"):
        percent = stored_by(workspace).percent
        if percent >= NEARLY_PERCENT:
            found.append(f"{workspace.name} {percent} %")
    if not found:
        return Finding(OK, "Storage", f"No workspace uses {NEARLY_PERCENT} % of its plan's storage.")
    detail = f"Nearly used up: {some_of(found)}."
    return Finding(
        WARN, "Storage", detail, "At 100 % their writes are refused: talk to them, or raise the plan."
    )
