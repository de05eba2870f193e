"""The token form: a dictionary in, settings and immediate edits out. It saves nothing."""

import re
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any

from django import forms
from django.http import QueryDict
from django.urls import reverse

from apperate.dashboard.forms import Switch
from tokens.models import Token
from tokens.pages.widgets import EVERY, SHOWN_MAX, DomainList, PermissionPicker
from tokens.rules import domains
from tokens.rules.domains import DomainRule
from tokens.rules.permissions import CREDIT_LIMIT_MAX, RATE_MAX, Action, Settings
from tokens.rules.settings_table import SETTINGS
from tokens.services.lifecycle import Edit
from tokens.services.saved_settings import of_revision

NICKNAME_MAX = Token.NICKNAME_MAX
RATE_ERRORS = dict.fromkeys(
    ("invalid", "min_value", "max_value"), f"Write a whole number from 1 to {RATE_MAX:,}, or leave it blank."
)
LOCAL_TIME = "%Y-%m-%dT%H:%M"


class PermissionField(forms.MultipleChoiceField):
    """Which actions on which datasets, as `NAME:action`; NAME is `*` for all datasets."""

    widget = PermissionPicker

    def valid_value(self, value: Any) -> bool:
        name, _, action = str(value).partition(":")
        return bool(re.fullmatch(r"\*|[A-Z0-9_]{1,63}", name)) and action in set(Action)


class LimitField(forms.CharField):
    """A whole number of credits, with or without thousands separators; blank is None."""

    def to_python(self, value: Any) -> Any:
        text = super().to_python(value)
        if not text:
            return None
        digits = re.sub(r"(?<=\d)[ ,’'\u00a0\u202f_](?=\d{3}\b)", "", text)
        if digits.startswith("-"):
            raise forms.ValidationError("A limit cannot be below 0. Write 0 to stop all CORE requests.")
        if not (digits.isascii() and digits.isdigit()):
            raise forms.ValidationError(
                "Write a whole number of credits, such as 500,000, or leave the field blank for no limit."
            )
        if int(digits) > CREDIT_LIMIT_MAX:
            raise forms.ValidationError(
                f"Write at most {CREDIT_LIMIT_MAX:,}, or leave the field blank for no limit."
            )
        return int(digits)


class TokenForm(forms.Form):
    """Everything on the token's page that one "Done" saves, in page order."""

    nickname = forms.CharField(
        label="Nickname",
        required=False,
        max_length=NICKNAME_MAX,
        help_text="Shown in lists and usage reports. Takes effect at once.",
        error_messages={"max_length": f"Use at most {NICKNAME_MAX} characters."},
        widget=forms.TextInput(attrs={"class": "input", "autocomplete": "off"}),
    )
    signed_requests = forms.BooleanField(
        label="Signed Requests",
        required=False,
        help_text="Refuse requests that do not carry a valid signature.",
        widget=Switch,
    )
    core_data_access = forms.BooleanField(
        label="Core Data Access",
        required=False,
        help_text="Read every Core dataset, charged in credits.",
        widget=Switch,
    )
    premium_data_access = forms.BooleanField(
        label="Premium Data Access",
        required=False,
        help_text="Read the Premium datasets this workspace subscribes to.",
        widget=Switch,
    )
    perm = PermissionField(
        label="Dataset permissions",
        required=False,
        help_text="What this token may do with your own datasets.",
    )
    allowed_domains = forms.CharField(
        label="Allowed Domain(s)",
        required=False,
        max_length=domains.RULES_MAX * domains.RULE_CHARACTERS_MAX,
        help_text="One a line, such as www.example.com, *.example.com or https://example.com:8443. "
        "Blank allows any.",
        widget=DomainList,
    )
    core_credit_limit = LimitField(
        label="Core Credit Usage Limit",
        required=False,
        help_text="Core requests stop for the rest of the month (UTC) once it is reached. Blank is no limit.",
        widget=forms.TextInput(attrs={"class": "input", "inputmode": "numeric", "autocomplete": "off"}),
    )
    requests_per_second = forms.IntegerField(
        label="Requests per second",
        required=False,
        min_value=1,
        max_value=RATE_MAX,
        error_messages=RATE_ERRORS,
        widget=forms.NumberInput(attrs={"class": "input", "autocomplete": "off"}),
    )
    burst = forms.IntegerField(
        label="Burst",
        required=False,
        min_value=1,
        max_value=RATE_MAX,
        help_text="How many requests may come at once. Blank is as many as a second allows, and at least 10.",
        error_messages=RATE_ERRORS,
        widget=forms.NumberInput(attrs={"class": "input", "autocomplete": "off"}),
    )
    domains_report_only = forms.BooleanField(
        label="Report-only domains",
        required=False,
        help_text="Let every page call, and show in the list of seen callers what the domains would refuse.",
        widget=Switch,
    )
    expires_at = forms.DateTimeField(
        label="Expiry",
        required=False,
        help_text="In UTC. From then on every request is refused; takes effect at once. Blank is never.",
        error_messages={"invalid": "Write a date and time such as 2027-01-31T18:00, or leave it blank."},
        widget=forms.DateTimeInput(attrs={"class": "input", "type": "datetime-local"}, format=LOCAL_TIME),
    )
    # What the editor started from, so that two people editing one token do not overwrite each other.
    based_on = forms.IntegerField(required=False, min_value=0, max_value=2**31 - 1, widget=forms.HiddenInput)
    nickname_was = forms.CharField(required=False, strip=False, widget=forms.HiddenInput)
    expires_at_was = forms.CharField(required=False, widget=forms.HiddenInput)

    def __init__(
        self,
        data: Any = None,
        *,
        token: Token,
        now: datetime,
        read_only: bool = False,
        shows_all: bool = False,
    ) -> None:
        revision = token.versions(now=now).saved
        self.token, self.now = token, now
        self.saved = of_revision(revision) if revision else Settings()
        self._basis = {
            "based_on": revision.number if revision else None,
            "nickname_was": token.nickname,
            "expires_at_was": token.expires_at.isoformat() if token.expires_at else "",
        }
        self._datasets = token.workspace.datasets.filter(deleted_at=None).order_by("name")
        super().__init__(data, initial=self._initial(), label_suffix="")
        self._offer_datasets(shows_all=shows_all)
        self._explain_plan()
        if read_only:
            for field in self.fields.values():
                field.disabled = True

    def _initial(self) -> dict[str, Any]:
        saved, expires_at = self.saved, self.token.expires_at
        return {
            "nickname": self.token.nickname,
            **{setting.name: getattr(saved, setting.name) for setting in SETTINGS},
            "perm": self._checked(),
            "allowed_domains": "\n".join(domains.store(saved.allowed_domains)),
            "core_credit_limit": "" if saved.core_credit_limit is None else f"{saved.core_credit_limit:,}",
            "expires_at": expires_at and expires_at.astimezone(UTC),
            **self._basis,
        }

    @property
    def has_more(self) -> bool:
        """Whether something behind "More" is set or invalid, and so must not be hidden."""
        names = ("requests_per_second", "burst", "domains_report_only", "expires_at")
        return any(self[name].value() for name in names) or any(name in self.errors for name in names)

    def _checked(self) -> list[str]:
        """The boxes checked in the last saved version; grants on deleted datasets have none."""
        names = dict(self._datasets.filter(pk__in=list(self.saved.grants)).values_list("pk", "name"))
        every = [f"{EVERY}:{action}" for action in Action if action in self.saved.all_datasets]
        return every + [
            f"{names[pk]}:{action}"
            for pk, actions in self.saved.grants.items()
            if pk in names
            for action in Action
            if action in actions
        ]

    def _offer_datasets(self, *, shows_all: bool) -> None:
        picker = self.fields["perm"].widget
        names = self._datasets.values_list("name", flat=True)
        picker.names = list(names if shows_all else names[: SHOWN_MAX + 1])
        picker.total = len(picker.names)
        if not shows_all and picker.total > SHOWN_MAX:
            picker.names, picker.total = picker.names[:SHOWN_MAX], self._datasets.count()
        picker.search_url = reverse("tokens:datasets", args=[self.token.public_id])

    def _explain_plan(self) -> None:
        """Disable a switch that may not be turned on, and say why; one that is on can still be turned off."""
        workspace, plan = self.token.workspace, self.token.workspace.limits.title
        if not workspace.may_require_signatures and not self.saved.signed_requests:
            self._forbid("signed_requests", f"Not part of the {plan} plan; the Business plan includes it.")
        rate = self.fields["requests_per_second"]
        rate.help_text = (
            f"More are refused with 429. Blank is the plan’s {workspace.limits.requests_per_second:,}."
        )
        if not workspace.has_premium:
            self._forbid("premium_data_access", "This workspace has no Premium subscription.")

    def _forbid(self, name: str, why: str) -> None:
        self.fields[name].disabled = not self.initial[name]
        self.fields[name].help_text = f"{self.fields[name].help_text} {why}"

    def clean_nickname(self) -> str:
        nickname: str = " ".join(self.cleaned_data["nickname"].split())
        if not nickname.isprintable():
            raise forms.ValidationError("Remove the invisible characters.")
        return nickname

    def clean_perm(self) -> tuple[frozenset[Action], dict[int, frozenset[Action]]]:
        """Return (actions on all datasets, dataset id → actions)."""
        by_name = _by_name(self.cleaned_data["perm"])
        every = frozenset(by_name.pop(EVERY, ()))
        ids = dict(self._datasets.filter(name__in=list(by_name)).values_list("name", "pk"))
        if unknown := sorted(set(by_name) - set(ids)):
            raise forms.ValidationError(f"{unknown[0]} is no dataset of this workspace. Take it out.")
        # A grant on a deleted dataset has no box; it is kept, because the dataset can be restored.
        offered = set(self._datasets.filter(pk__in=list(self.saved.grants)).values_list("pk", flat=True))
        kept = {pk: actions for pk, actions in self.saved.grants.items() if pk not in offered}
        return every, kept | {ids[name]: frozenset(actions) for name, actions in by_name.items()}

    def clean_allowed_domains(self) -> tuple[DomainRule, ...]:
        rules, errors = domains.parse_rules(self.cleaned_data["allowed_domains"])
        if errors:
            raise forms.ValidationError([str(error) for error in errors[:10]])
        return rules

    def clean_expires_at(self) -> datetime | None:
        expires_at: datetime | None = self.cleaned_data["expires_at"]
        unchanged = expires_at == self._expires_at_was()
        if expires_at and expires_at <= self.now and not unchanged:
            raise forms.ValidationError("Choose a time in the future. To stop the token now, disable it.")
        return expires_at

    def _expires_at_was(self) -> datetime | None:
        text = self.data.get("expires_at_was") or ""
        try:
            return datetime.fromisoformat(text).replace(second=0, microsecond=0) if text else None
        except ValueError:
            return None

    def settings(self) -> Settings:
        """The settings as entered."""
        every, grants = self.cleaned_data["perm"]
        typed = {setting.name: self.cleaned_data[setting.name] for setting in SETTINGS}
        return Settings(grants=grants, all_datasets=every, **typed)

    def nickname_edit(self) -> Edit | None:
        """The nickname, if it was edited."""
        was, becomes = self.cleaned_data["nickname_was"], self.cleaned_data["nickname"]
        return Edit(was, becomes) if was != becomes else None

    def expires_at_edit(self) -> Edit | None:
        """The expiry, if it was edited."""
        becomes = self.cleaned_data["expires_at"]
        if becomes == self._expires_at_was():
            return None
        text = self.cleaned_data["expires_at_was"]
        return Edit(datetime.fromisoformat(text) if text else None, becomes)

    def rebase(self) -> None:
        """Start from what is saved now, after telling the editor what others changed."""
        basis = {name: "" if value is None else str(value) for name, value in self._basis.items()}
        data = QueryDict(mutable=True)
        data.update(self.data)
        for name, value in basis.items():
            data[name] = value
        self.data = data


def _by_name(values: Iterable[str]) -> dict[str, set[Action]]:
    found: dict[str, set[Action]] = {}
    for value in values:
        name, _, action = value.partition(":")
        found.setdefault(name, set()).add(Action(action))
    return found


class NicknameForm(forms.Form):
    """The secret token's form: it has only a nickname and no settings."""

    nickname = TokenForm.base_fields["nickname"]

    clean_nickname = TokenForm.clean_nickname
