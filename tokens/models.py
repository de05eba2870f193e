"""Token, its secrets, the revisions of its settings and their grants; what it spent and used."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.conf import settings
from django.db import models
from django.db.models import Q
from django.db.models.functions import Now
from django.utils import timezone

from apperate.accounts.models import Workspace
from tokens.alert_models import CreditAlert, Webhook  # noqa: F401  Django looks for models in this module.
from tokens.rules import token_format
from tokens.rules.token_format import TokenKind

SECRET_NAME = "Secret token"  # noqa: S105  Its name, not its value.


class Status(models.TextChoices):
    """A token's status; the first that applies, in this order, is shown."""

    DELETED = "deleted", "Deleted"
    DISABLED = "disabled", "Disabled"
    EXPIRED = "expired", "Expired"
    ACTIVATING = "activating", "Activating"
    PENDING = "pending", "Change pending"
    ACTIVE = "active", "Active"


class TokenQuerySet(models.QuerySet["Token"]):
    def oldest_first(self) -> "TokenQuerySet":
        return self.order_by("created_at", "pk")

    def kept(self) -> "TokenQuerySet":
        """Tokens that are not in the trash."""
        return self.filter(deleted_at=None)

    def with_versions(self) -> "TokenQuerySet":
        """Each token with its live revisions (newest first), their grants, and its current value."""
        revisions = Revision.objects.live().select_related("saved_by").prefetch_related("grants__dataset")
        return self.select_related("workspace", "created_by").prefetch_related(
            models.Prefetch("revisions", queryset=revisions, to_attr="live_revisions"),
            models.Prefetch("secrets", queryset=Secret.objects.current(), to_attr="current_secrets"),
        )


@dataclass(frozen=True, slots=True)
class Versions:
    """The versions of a token's settings, at most two, that count at one moment."""

    in_force: "Revision | None"
    pending: "Revision | None"

    @property
    def saved(self) -> "Revision | None":
        """The last saved version: what the form starts from."""
        return self.pending or self.in_force


class Token(models.Model):
    """What a workspace hands out: an identity with settings. Its value is in Secret."""

    NICKNAME_MAX = 60

    workspace = models.ForeignKey(Workspace, on_delete=models.PROTECT, related_name="tokens")
    public_id = models.CharField(max_length=20, unique=True, default=token_format.new_public_id)
    kind = models.CharField(max_length=11, choices=[(k.value, k.value.title()) for k in TokenKind])
    nickname = models.CharField(max_length=NICKNAME_MAX, blank=True, default="", db_default="")
    created_at = models.DateTimeField(default=timezone.now, db_default=Now())
    created_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, null=True, on_delete=models.SET_NULL, related_name="+"
    )
    disabled_at = models.DateTimeField(null=True)
    deleted_at = models.DateTimeField(null=True)
    expires_at = models.DateTimeField(null=True)
    # Set by a database trigger to the transaction that last wrote the row (database/changes.py polls it).
    changed_xid = models.BigIntegerField(default=0, db_default=0, editable=False, db_index=True)

    objects = TokenQuerySet.as_manager()

    class Meta:
        indexes = [models.Index(fields=["workspace", "created_at", "id"], name="tokens_token_oldest_first")]
        constraints = [
            models.UniqueConstraint(
                fields=["workspace"], condition=Q(kind="secret"), name="tokens_token_one_secret"
            ),
            models.CheckConstraint(
                condition=Q(kind__in=["publishable", "secret"]), name="tokens_token_kind_known"
            ),
            models.CheckConstraint(
                condition=~Q(kind="secret", deleted_at__isnull=False), name="tokens_token_secret_stays"
            ),
        ]

    def __str__(self) -> str:
        return self.nickname or (SECRET_NAME if self.is_secret else self.public_id)

    @property
    def name(self) -> str:
        """What to call the token in a sentence or a label."""
        return self.nickname or (SECRET_NAME if self.is_secret else self.masked or self.public_id)

    @property
    def is_secret(self) -> bool:
        return self.kind == TokenKind.SECRET

    def versions(self, *, now: datetime) -> Versions:
        """Which saved versions count at `now`. Uses `live_revisions` when with_versions() fetched them."""
        live: Iterable[Revision] = getattr(self, "live_revisions", None) or self.revisions.live()[:2]
        pending = in_force = None
        for revision in live:  # Newest first: the first effective one is in force.
            # So is the one before a pending version: it was at that save, even if the clock was set back.
            if revision.effective_at <= now or pending is not None:
                in_force = revision
                break
            pending = revision
        return Versions(in_force, pending)

    def status(self, *, now: datetime) -> Status:
        versions = self.versions(now=now)
        if self.deleted_at:
            return Status.DELETED
        if self.disabled_at:
            return Status.DISABLED
        if self.expires_at and self.expires_at <= now:
            return Status.EXPIRED
        if versions.in_force is None:
            return Status.ACTIVATING
        return Status.PENDING if versions.pending else Status.ACTIVE

    @property
    def value(self) -> str:
        """The full value of a publishable token; empty for a secret one."""
        secrets = getattr(self, "current_secrets", None)
        secret = secrets[0] if secrets else self.secrets.current().first()
        return (secret.clear or "") if secret else ""

    @property
    def masked(self) -> str:
        secret = (getattr(self, "current_secrets", None) or [self.secrets.current().first()])[0]
        return secret.masked if secret else ""


class SecretQuerySet(models.QuerySet["Secret"]):
    def current(self) -> "SecretQuerySet":
        """The values that no rotation has replaced, newest first."""
        return self.filter(retires_at=None).order_by("-created_at", "-pk")


class Secret(models.Model):
    """One value of a token. Looked up by digest; stored in clear only for publishable tokens."""

    token = models.ForeignKey(Token, on_delete=models.CASCADE, related_name="secrets")
    digest = models.BinaryField(max_length=32, unique=True)
    clear = models.CharField(max_length=60, null=True)  # noqa: DJ001  null: "there is none", "" is no value.
    ciphertext = models.BinaryField(null=True)
    masked = models.CharField(max_length=40)
    is_imported = models.BooleanField(default=False, db_default=False)
    created_at = models.DateTimeField(default=timezone.now, db_default=Now())
    retires_at = models.DateTimeField(null=True)

    objects = SecretQuerySet.as_manager()

    class Meta:
        constraints = [
            models.CheckConstraint(
                condition=Q(clear__isnull=True) ^ Q(ciphertext__isnull=True),
                name="tokens_secret_clear_or_sealed",
            ),
            models.CheckConstraint(
                condition=Q(clear__isnull=True) | Q(clear__startswith="pk_"),
                name="tokens_secret_only_pk_clear",
            ),
        ]

    def __str__(self) -> str:
        return self.masked


class SigningSecret(models.Model):
    """The secret that signs one token's requests, encrypted. Made on first need."""

    token = models.OneToOneField(Token, on_delete=models.CASCADE, related_name="signing_secret")
    ciphertext = models.BinaryField()
    created_at = models.DateTimeField(default=timezone.now, db_default=Now())

    def __str__(self) -> str:
        return f"signing secret of {self.token}"


class UsedSignature(models.Model):
    """The signature of a write, which works only once. The row lives as long as its date is accepted."""

    digest = models.BinaryField(primary_key=True, max_length=32)
    expires_at = models.DateTimeField(db_index=True)

    def __str__(self) -> str:
        return bytes(self.digest).hex()


class RevisionQuerySet(models.QuerySet["Revision"]):
    def live(self) -> "RevisionQuerySet":
        """At most two per token, newest first: not withdrawn, and not superseded by a later one in force."""
        return self.filter(withdrawn_at=None, is_past=False).order_by("token", "-number")


class Revision(models.Model):
    """One saved version of a token's settings, with the time it takes effect."""

    class Withdrawal(models.TextChoices):
        SUPERSEDED = "superseded", "Superseded"
        UNDONE = "undone", "Undone"

    token = models.ForeignKey(Token, on_delete=models.CASCADE, related_name="revisions")
    number = models.PositiveIntegerField()
    saved_at = models.DateTimeField()
    saved_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, null=True, on_delete=models.SET_NULL, related_name="+"
    )
    effective_at = models.DateTimeField()
    withdrawn_at = models.DateTimeField(null=True)
    withdrawal = models.CharField(
        max_length=10, choices=Withdrawal.choices, blank=True, default="", db_default=""
    )
    is_past = models.BooleanField(default=False, db_default=False)  # was in force, and was replaced

    signed_requests = models.BooleanField(default=False, db_default=False)
    core_data_access = models.BooleanField(default=True, db_default=True)
    premium_data_access = models.BooleanField(default=False, db_default=False)
    all_datasets_read = models.BooleanField(default=False, db_default=False)
    all_datasets_write = models.BooleanField(default=False, db_default=False)
    all_datasets_delete = models.BooleanField(default=False, db_default=False)
    allowed_domains = models.JSONField(default=list, db_default=[])  # canonical texts of domains.DomainRule
    domains_report_only = models.BooleanField(default=False, db_default=False)
    core_credit_limit = models.BigIntegerField(null=True)
    requests_per_second = models.PositiveIntegerField(null=True)
    burst = models.PositiveIntegerField(null=True)

    objects = RevisionQuerySet.as_manager()

    class Meta:
        indexes = [
            models.Index(
                fields=["token", "-number"],
                condition=Q(withdrawn_at__isnull=True, is_past=False),
                name="tokens_revision_live",
            )
        ]
        constraints = [
            models.UniqueConstraint(fields=["token", "number"], name="tokens_revision_number_once"),
            models.CheckConstraint(
                condition=Q(effective_at__gte=models.F("saved_at")), name="tokens_revision_not_before_saved"
            ),
            models.CheckConstraint(
                condition=Q(core_credit_limit__isnull=True) | Q(core_credit_limit__gte=0),
                name="tokens_revision_limit_not_negative",
            ),
            models.CheckConstraint(
                condition=Q(withdrawn_at__isnull=True) ^ ~Q(withdrawal=""),
                name="tokens_revision_withdrawal_named",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.token} v{self.number}"


class Grant(models.Model):
    """One version's rights on one dataset of the workspace."""

    revision = models.ForeignKey(Revision, on_delete=models.CASCADE, related_name="grants")
    dataset = models.ForeignKey("datasets.Dataset", on_delete=models.CASCADE, related_name="+")
    can_read = models.BooleanField(default=False, db_default=False)
    can_write = models.BooleanField(default=False, db_default=False)
    can_delete = models.BooleanField(default=False, db_default=False)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["revision", "dataset"], name="tokens_grant_once"),
            models.CheckConstraint(
                condition=Q(can_read=True) | Q(can_write=True) | Q(can_delete=True),
                name="tokens_grant_not_empty",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.dataset_id}: {', '.join(self.actions)}"

    @property
    def actions(self) -> list[str]:
        return [action for action in ("read", "write", "delete") if getattr(self, f"can_{action}")]


class CreditWindow(models.Model):
    """A token's CORE spending in one UTC month. The page, the headers and the gate read this row."""

    token = models.ForeignKey(Token, on_delete=models.CASCADE, related_name="credit_windows")
    month = models.DateField()
    used = models.BigIntegerField(default=0, db_default=0)
    # What the last draw of a lease took: how its statement returns that. Not a total of anything.
    last_lease = models.BigIntegerField(default=0, db_default=0)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["token", "month"], name="tokens_creditwindow_once"),
            models.CheckConstraint(condition=Q(used__gte=0), name="tokens_creditwindow_not_negative"),
        ]

    def __str__(self) -> str:
        return f"{self.month:%Y-%m}: {self.used}"


class Throttle(models.Model):
    """The rate bucket of a token, shared by all workers: its level, and as of when."""

    token = models.OneToOneField(Token, primary_key=True, on_delete=models.CASCADE, related_name="+")
    level = models.FloatField()
    filled_at = models.DateTimeField()
    last_taken = models.BigIntegerField()  # by the last statement: how it returns that

    def __str__(self) -> str:
        return f"{self.token_id}: {self.level:.1f}"


class UsageCounter(models.Model):
    """Calls, records and credits of one token on one dataset in one minute, by operation and outcome.

    Ids without foreign keys: the table is written in bulk every second and can be partitioned by token.
    """

    token_id: Any = models.BigIntegerField()
    dataset_id: Any = models.BigIntegerField(default=0, db_default=0)  # 0: the request named no dataset
    operation = models.CharField(max_length=10)
    outcome = models.CharField(max_length=30)  # "ok" or the code of the refusal
    minute = models.DateTimeField()
    calls = models.BigIntegerField(default=0, db_default=0)
    records = models.BigIntegerField(default=0, db_default=0)
    credits = models.BigIntegerField(default=0, db_default=0)
    core_credits = models.BigIntegerField(default=0, db_default=0)
    # Made up by the demo, and labelled so on every page.
    is_demo = models.BooleanField(default=False, db_default=False)

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["token_id", "minute", "dataset_id", "operation", "outcome"], name="tokens_usage_once"
            )
        ]
        indexes = [models.Index(fields=["minute"], name="tokens_usage_by_minute")]

    def __str__(self) -> str:
        return f"{self.token_id} {self.minute} {self.operation} {self.outcome}: {self.calls}"


class TokenRefusal(models.Model):
    """A kind of refusal that a token met: its code, on which dataset, from which site; how often and when.
    The code "ok" stands for answers to a site.

    Ids without foreign keys, as in UsageCounter. refusal_log.py bounds the rows per token.
    """

    token_id: Any = models.BigIntegerField()
    code = models.CharField(max_length=30)
    dataset_id: Any = models.BigIntegerField(default=0, db_default=0)  # 0: none
    # The host of the page that called.
    site = models.CharField(max_length=260, blank=True, default="", db_default="")
    calls = models.BigIntegerField()
    first_at = models.DateTimeField()
    last_at = models.DateTimeField(db_index=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["token_id", "code", "dataset_id", "site"], name="tokens_refusal_once"
            )
        ]

    def __str__(self) -> str:
        return f"{self.token_id} {self.code} {self.site}: {self.calls}"


class UsageFlush(models.Model):
    """The ids of flushes already counted, so that repeating one adds nothing."""

    id = models.UUIDField(primary_key=True)
    flushed_at = models.DateTimeField(default=timezone.now, db_default=Now(), db_index=True)

    def __str__(self) -> str:
        return str(self.id)
