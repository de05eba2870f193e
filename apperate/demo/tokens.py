"""The demo's six tokens, each in a different state."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

from apperate.accounts.models import User, Workspace
from apperate.demo.content import NAMES, DemoFault
from apperate.kernel.refusals import Refusal
from datasets.models import Dataset
from tokens.models import Status, Token, UsageCounter
from tokens.rules import domains
from tokens.rules.permissions import Action, Settings
from tokens.rules.token_format import TokenKind
from tokens.services import lifecycle, rows

SECRET = "Secret token"  # noqa: S105  Its name, not its value.
PUBLIC = "Analytics dashboard"
SCHEDULED = "Mobile app"
DISABLED = "Old integration"
NEAR_LIMIT = "Partner feed"
SCHEDULED_DAYS = 7
LIMIT = 50_000
OTHER_LIMIT = 100_000


@dataclass(frozen=True, slots=True)
class Holder:
    """One publishable token: its holder, since when, and its permissions."""

    nickname: str
    days_old: int
    reads: tuple[str, ...] = ()
    allowed_domains: str = ""
    settings: Settings = field(default_factory=Settings)


HOLDERS = (
    Holder(PUBLIC, 41, NAMES, settings=Settings(premium_data_access=True)),
    Holder("Customer websites", 37, ("STOCKS",), "www.example.com *.example.org https://app.example.net/charts*"),
    Holder(NEAR_LIMIT, 35, ("STOCKS",), settings=Settings(core_credit_limit=LIMIT)),
    Holder(SCHEDULED, 33, ("STOCKS", "WEATHER"), settings=Settings(core_credit_limit=LIMIT)),
    Holder(DISABLED, 44, ("CARS",), settings=Settings(core_data_access=False)),
)  # fmt: skip


def make_tokens(
    workspace: Workspace, found: Mapping[tuple[str, str], Dataset], *, by: User, now: datetime
) -> dict[str, Token]:
    """Make what is missing or in the trash; what was made, by nickname (SECRET for the secret one)."""
    ids = {name: dataset.pk for (home, name), dataset in found.items() if home == workspace.name}
    made: dict[str, Token] = {}
    if not workspace.tokens.filter(kind=TokenKind.SECRET).exists():
        made[SECRET] = lifecycle.create_secret_token(
            workspace=workspace, by=by, now=now - timedelta(days=45), immediately=True
        )
    secret = workspace.tokens.get(kind=TokenKind.SECRET)
    if secret.disabled_at:
        lifecycle.enable(token=secret, by=by, now=now)
    for holder in HOLDERS:
        token = find(workspace, holder.nickname)
        if token is not None and (holder.nickname != PUBLIC or reads_all(token, ids, now=now)):
            continue
        if token is not None:
            lifecycle.set_nickname(token=token, nickname=f"{PUBLIC} (changed)", by=by, now=now)
        made[holder.nickname] = _create(workspace, holder, ids, by=by, now=now)
    _schedule(find(workspace, SCHEDULED), by=by, now=now)
    return made


def find(workspace: Workspace, nickname: str) -> Token | None:
    """The oldest token with that nickname that is not in the trash."""
    return workspace.tokens.kept().filter(nickname=nickname).oldest_first().first()


def reads_all(token: Token, ids: Mapping[str, int], *, now: datetime) -> bool:
    """Whether a token works now, for anyone, and can read the demo's three datasets."""
    if token.status(now=now) not in {Status.ACTIVE, Status.PENDING}:
        return False
    versions = token.versions(now=now)
    for version in filter(None, (versions.in_force, versions.pending)):
        readable = set(version.grants.filter(can_read=True).values_list("dataset_id", flat=True))
        covered = version.all_datasets_read or readable >= {ids[name] for name in NAMES}
        restricted = version.allowed_domains and not version.domains_report_only
        if not covered or restricted or version.signed_requests:
            return False
    return True


def _create(
    workspace: Workspace, holder: Holder, ids: Mapping[str, int], *, by: User, now: datetime
) -> Token:
    rules, errors = domains.parse_rules(holder.allowed_domains)
    grants = {ids[name]: frozenset({Action.READ}) for name in holder.reads}
    token = lifecycle.create_publishable_token(
        workspace=workspace,
        by=by,
        now=now - timedelta(days=holder.days_old),
        nickname=holder.nickname,
        settings=replace(holder.settings, grants=grants, allowed_domains=rules),
        active_at_once=True,
    )
    if isinstance(token, Refusal) or errors:
        raise DemoFault(f"The token {holder.nickname} cannot be made: {token}.")
    if holder.nickname == DISABLED:
        token = lifecycle.disable(token=token, by=by, now=now - timedelta(days=6))
    return token


def _schedule(token: Token | None, *, by: User, now: datetime) -> None:
    """Schedule a change of the limit for a week later, to show what a pending change looks like."""
    if token is None or token.versions(now=now).pending or token.versions(now=now).in_force is None:
        return
    old, _ = lifecycle.saved(token, now=now)
    limit = OTHER_LIMIT if old.core_credit_limit == LIMIT else LIMIT
    new = replace(old, core_credit_limit=limit)
    effective_at = now + timedelta(days=SCHEDULED_DAYS)
    rows.insert_revision(token, new, by=by, now=now, effective_at=effective_at)
    rows.touch(token)
    before, after = rows.changed_words(token.workspace, old, new)
    after["effective_at"] = effective_at.isoformat()
    rows.audit("token.settings_saved", token, by=by, now=now, address="", before=before, after=after)


def remove_tokens(workspace: Workspace) -> None:
    """Remove every token of the demo and its usage. Saving the workspace notifies the workers."""
    ids = list(workspace.tokens.values_list("pk", flat=True))
    UsageCounter.objects.filter(token_id__in=ids).delete()
    workspace.tokens.all().delete()
