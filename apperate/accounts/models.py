"""People and workspaces: who may sign in, and to what."""

from datetime import datetime
from typing import Any, ClassVar

from django.contrib.auth.base_user import AbstractBaseUser, BaseUserManager
from django.contrib.auth.models import PermissionsMixin
from django.db import models
from django.db.models import Q
from django.db.models.functions import Lower, Now
from django.utils import timezone

from apperate.accounts.plans import PLANS, Plan, may_require_signatures

# Workspaces whose datasets every workspace may read with Core or Premium Data Access.
CORE, PREMIUM = "CORE", "PREMIUM"


class UserManager(BaseUserManager["User"]):
    def create_user(self, email: str, password: str | None = None, **fields: Any) -> "User":
        user = self.model(email=self.normalize_email(email).lower(), **fields)
        user.set_password(password)
        user.save(using=self._db)
        return user

    def create_superuser(self, email: str, password: str | None = None, **fields: Any) -> "User":
        return self.create_user(email, password, is_staff=True, is_superuser=True, **fields)

    def get_by_natural_key(self, username: str | None) -> "User":
        return self.get(email__iexact=username)


class User(AbstractBaseUser, PermissionsMixin):
    """A person who signs in with an e-mail address. `is_staff` opens the operators' admin."""

    email = models.EmailField(max_length=254, unique=True)
    name = models.CharField(max_length=100, blank=True, default="", db_default="")
    is_active = models.BooleanField(default=True, db_default=True)
    is_staff = models.BooleanField(default=False, db_default=False)
    date_joined = models.DateTimeField(default=timezone.now, db_default=Now())

    objects = UserManager()
    USERNAME_FIELD = "email"
    EMAIL_FIELD = "email"
    REQUIRED_FIELDS: ClassVar[list[str]] = []

    class Meta:
        constraints = [models.UniqueConstraint(Lower("email"), name="accounts_user_email_any_case")]

    def __str__(self) -> str:
        return self.name or self.email

    def get_full_name(self) -> str:
        return str(self)

    @property
    def initials(self) -> str:
        """Two letters for the avatar."""
        words = (self.name or self.email.split("@")[0]).replace(".", " ").split()
        return "".join(word[0] for word in words[:2]).upper() or "?"


class WorkspaceQuerySet(models.QuerySet["Workspace"]):
    def of(self, user: User) -> "WorkspaceQuerySet":
        """The workspaces this person is a member of, by title."""
        return self.filter(memberships__user=user).order_by("title", "pk")


class Workspace(models.Model):
    """The account: owns datasets and tokens. `name` is its id in URLs, upper-case."""

    name = models.CharField(max_length=63, unique=True)
    title = models.CharField(max_length=100)
    plan = models.CharField(
        max_length=20,
        choices=[(p.name, p.title) for p in PLANS.values()],
        default="business",
        db_default="business",
    )
    is_legacy = models.BooleanField(
        default=False, db_default=False, help_text="May sign requests on the grow and scale plans."
    )
    has_premium = models.BooleanField(
        default=False, db_default=False, help_text="Has a Premium data subscription."
    )
    allows_secret_in_browser = models.BooleanField(default=False, db_default=False)
    requires_second_factor = models.BooleanField(
        default=False,
        db_default=False,
        help_text="Members without a second factor see nothing but how to add one.",
    )
    is_system = models.BooleanField(
        default=False, db_default=False, help_text="Filled by operators: CORE and PREMIUM."
    )
    # Set by older clients through /v1/account/…: returned to them, without effect on what a token may spend.
    pays_as_it_goes = models.BooleanField(default=False, db_default=False)
    message_budget = models.BigIntegerField(null=True, editable=False)
    created_at = models.DateTimeField(default=timezone.now, db_default=Now())
    # Set by a database trigger to the transaction that last wrote the row (database/changes.py polls it).
    changed_xid = models.BigIntegerField(default=0, db_default=0, editable=False, db_index=True)

    objects = WorkspaceQuerySet.as_manager()

    class Meta:
        constraints = [
            models.CheckConstraint(
                condition=Q(name__regex=r"^[A-Z0-9_]{1,63}$"), name="accounts_workspace_name_form"
            ),
            models.CheckConstraint(condition=Q(plan__in=list(PLANS)), name="accounts_workspace_plan_known"),
        ]

    def __str__(self) -> str:
        return self.title

    @property
    def limits(self) -> Plan:
        return PLANS[self.plan]

    @property
    def may_require_signatures(self) -> bool:
        return may_require_signatures(self.plan, is_legacy=self.is_legacy)


class Role(models.TextChoices):
    PRIMARY = "primary", "Primary"
    ADMIN = "admin", "Admin"
    USER = "user", "User"


class Membership(models.Model):
    """A person's membership of a workspace. Admins and the primary manage; users look and call."""

    workspace = models.ForeignKey(Workspace, on_delete=models.CASCADE, related_name="memberships")
    user = models.ForeignKey(User, on_delete=models.CASCADE, related_name="memberships")
    role = models.CharField(max_length=10, choices=Role.choices, default=Role.USER, db_default=Role.USER)
    created_at = models.DateTimeField(default=timezone.now, db_default=Now())

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["workspace", "user"], name="accounts_membership_once"),
            models.UniqueConstraint(
                fields=["workspace"], condition=Q(role=Role.PRIMARY), name="accounts_membership_one_primary"
            ),
            models.CheckConstraint(condition=Q(role__in=Role.values), name="accounts_membership_role_known"),
        ]

    def __str__(self) -> str:
        return f"{self.user} in {self.workspace} ({self.get_role_display()})"

    @property
    def manages(self) -> bool:
        """Whether this member may change tokens, datasets and the team."""
        return self.role in {Role.PRIMARY, Role.ADMIN}


class InvitationQuerySet(models.QuerySet["Invitation"]):
    def pending(self, *, now: datetime) -> "InvitationQuerySet":
        return self.filter(accepted_at=None, withdrawn_at=None, expires_at__gt=now).order_by(
            "created_at", "pk"
        )


class Invitation(models.Model):
    """An e-mailed link that makes its recipient a member. Only the link's digest is stored."""

    workspace = models.ForeignKey(Workspace, on_delete=models.CASCADE, related_name="invitations")
    email = models.EmailField(max_length=254)
    role = models.CharField(max_length=10, choices=Role.choices, default=Role.USER, db_default=Role.USER)
    digest = models.BinaryField(unique=True, max_length=32)
    invited_by = models.ForeignKey(User, null=True, on_delete=models.SET_NULL, related_name="+")
    created_at = models.DateTimeField(default=timezone.now, db_default=Now())
    expires_at = models.DateTimeField()
    accepted_at = models.DateTimeField(null=True, blank=True)
    withdrawn_at = models.DateTimeField(null=True, blank=True)

    objects = InvitationQuerySet.as_manager()

    def __str__(self) -> str:
        return f"{self.email} to {self.workspace}"


class KeptAnswer(models.Model):
    """The answer to a POST with an Idempotency-Key, kept for 24 hours; "" for one that held a secret."""

    workspace = models.ForeignKey(Workspace, on_delete=models.CASCADE, related_name="+")
    route = models.CharField(max_length=600)  # method and path below the version
    key = models.CharField(max_length=255)
    fingerprint = models.BinaryField(max_length=32)
    answer = models.TextField(blank=True, default="", db_default="")
    kept_at = models.DateTimeField(db_index=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["workspace", "route", "key"], name="accounts_keptanswer_once")
        ]

    def __str__(self) -> str:
        return f"{self.route} {self.key}"


class AuditEvent(models.Model):
    """Who did what, when and from where, with the values before and after. Never a secret.

    Append-only: the database refuses anything else, but for deleting rows past the retention (trail.purge).
    """

    workspace = models.ForeignKey(Workspace, null=True, on_delete=models.PROTECT, related_name="audit_events")
    at = models.DateTimeField(default=timezone.now, db_default=Now(), db_index=True)
    # Deleting the user leaves the row unchanged; `actor` still says who it was.
    user = models.ForeignKey(
        User, null=True, on_delete=models.DO_NOTHING, db_constraint=False, related_name="+"
    )
    actor = models.CharField(max_length=254)
    address = models.CharField(max_length=64, blank=True, default="", db_default="")
    action = models.CharField(max_length=50)
    target = models.CharField(max_length=254, blank=True, default="", db_default="")
    before = models.JSONField(null=True)
    after = models.JSONField(null=True)
    # The event's position among those of its workspace, the digest of the one before it, and its own. The
    # database fills them in at the end of the transaction (audit/chain.py).
    position = models.BigIntegerField(null=True, editable=False)
    previous = models.BinaryField(null=True)
    digest = models.BinaryField(null=True)

    class Meta:
        indexes = [models.Index(fields=["workspace", "-at"], name="accounts_audit_by_time")]
        constraints = [
            models.UniqueConstraint(fields=["workspace", "position"], name="accounts_audit_by_position")
        ]

    def __str__(self) -> str:
        return f"{self.at:%Y-%m-%d %H:%M:%S} {self.actor} {self.action} {self.target}"


class AuditHead(models.Model):
    """The end of a chain of audit events, and how far it has been purged. Written only by the database."""

    # The id of the workspace; 0 for events without one.
    chain = models.BigIntegerField(primary_key=True)
    position = models.BigIntegerField()
    digest = models.BinaryField()
    purged = models.BigIntegerField(default=0, db_default=0)

    def __str__(self) -> str:
        return f"{self.chain}: {self.position}"
