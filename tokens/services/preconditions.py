"""Preconditions for changing a token: each function returns a Refusal, or None to go on."""

from datetime import datetime

from apperate.accounts.models import Workspace
from apperate.kernel.refusals import Refusal, invalid_value
from tokens.models import Revision, Secret, Token
from tokens.rules import token_format
from tokens.rules.permissions import Settings
from tokens.rules.token_format import TokenKind
from tokens.services import saved_settings

OVERTAKEN = "edit"  # the check that fails when two people edit one token


def beyond_plan(workspace: Workspace) -> Refusal | None:
    """Refuse a token beyond the plan's number; the secret one and imports count, the trash does not."""
    plan, kept = workspace.limits, workspace.tokens.filter(deleted_at=None).count()
    if kept < plan.tokens_max:
        return None
    return Refusal(
        "plan-required",
        f"The {plan.title} plan has room for {plan.tokens_max:,} tokens, the secret one included, and this "
        f"workspace has {kept:,}. Delete a token that is no longer used, or move to a larger plan.",
        check="token",
        received=f"{kept:,} tokens",
        needed=f"fewer than {plan.tokens_max:,} tokens",
    )


def refused_settings(workspace: Workspace, old: Settings, new: Settings) -> Refusal | None:
    """Refuse settings that the plan or the subscription does not include, or that make no sense."""
    if new.signed_requests and not old.signed_requests and not workspace.may_require_signatures:
        return Refusal(
            "plan-required",
            f"Signed requests are not part of the {workspace.limits.title} plan. "
            "Leave Signed Requests off, or move to the Business plan.",
            check="signature",
            received="signed_requests=true",
            needed="signed_requests=false",
        )
    if new.premium_data_access and not old.premium_data_access and not workspace.has_premium:
        return Refusal(
            "plan-required",
            "This workspace has no Premium subscription. Leave Premium Data Access off.",
            check="permission",
            received="premium_data_access=true",
            needed="premium_data_access=false",
        )
    if new.core_credit_limit is not None and not 0 <= new.core_credit_limit < 2**63:
        return invalid_value(
            "core_credit_limit", new.core_credit_limit, "a whole number from 0 on", check="credits"
        )
    return _datasets(workspace, old, new)


def _datasets(workspace: Workspace, old: Settings, new: Settings) -> Refusal | None:
    # Existing grants may stay: a deleted dataset can be restored with its grants.
    added = set(new.grants) - set(old.grants)
    if not added:
        return None
    known = set(workspace.datasets.filter(pk__in=added, deleted_at=None).values_list("pk", flat=True))
    if unknown := added - known:
        return invalid_value(
            "permissions", f"dataset {min(unknown)}", "datasets of this workspace", check="permission"
        )
    return None


def refused_import(value: str | None) -> Refusal | None:
    """Refuse an imported value that is not publishable, or that another token already has."""
    if value is None:
        return None
    parsed = token_format.parse(value)
    if parsed is None or parsed.kind is not TokenKind.PUBLISHABLE:
        return invalid_value(
            "value", token_format.mask(value), "pk_ and 32 lower-case hex characters", check="token"
        )
    if Secret.objects.filter(digest=token_format.digest(value)).exists():
        return invalid_value(
            "value", token_format.mask(value), "a value that no token has yet", check="token"
        )
    return None


def overtaken(token: Token, saved: Revision | None, based_on: int) -> Refusal:
    """Say who has saved another version since the one the editor saw, and what it changed."""
    seen = token.revisions.filter(number=based_on).first()
    changed: tuple[saved_settings.Difference, ...] = ()
    if saved and seen:
        changed = saved_settings.differences(
            saved_settings.of_revision(seen),
            saved_settings.of_revision(saved),
            saved_settings.dataset_names(token.workspace),
        )
    words = "; ".join(f"{d.label} is now {d.after} (was {d.before})" for d in changed)
    who = str(saved.saved_by) if saved and saved.saved_by else "Somebody"
    when = f" at {saved.saved_at:%H:%M:%S} UTC" if saved else ""
    detail = (
        f"Nothing was saved, because these settings were changed meanwhile. {who}’s version, saved{when}, "
        f"counts{': ' + words if words else ''}. Look at what you typed and save again to replace it."
    )
    return Refusal(
        "invalid-values",
        detail,
        check=OVERTAKEN,
        received=f"based_on={based_on}",
        needed=f"based_on={saved.number if saved else 0}",
        errors=tuple({"field": d.field, "before": d.before, "after": d.after} for d in changed),
    )


def overtaken_field(label: str, current: object) -> Refusal:
    """Say that another person changed the same immediate field since the form was opened."""
    shown = f"{current:%Y-%m-%d %H:%M} UTC" if isinstance(current, datetime) else (current or "blank")
    return Refusal(
        "invalid-values",
        f"Nothing was saved, because {label} was changed meanwhile and is now “{shown}”. "
        "Look at what you typed and save again to replace it.",
        check=OVERTAKEN,
    )


def not_editable(token: Token) -> Refusal:
    """Say why a token has no settings to save."""
    what = "a publishable token; the secret one has no settings"
    return invalid_value("token", token.public_id, "a token outside the trash" if token.deleted_at else what)
