"""TrialForm: the box "Test this token": a brief description of a request in, a Trial out."""

import re
from typing import Any

from django import forms

from apperate.accounts.models import Workspace
from tokens.models import Token
from tokens.rules.permissions import CORE, PREMIUM, Action
from tokens.rules.vocabulary import Signature
from tokens.trials.judging import SLOW_CLOCK, Trial

OFFERED_MAX = 100
ADDRESS_CHARS_MAX = 2_000
NOW, AFTER = "now", "after"
# method → its action on a dataset, its URL, and its body.
REQUESTS = {
    "GET": (Action.READ, "/v1/data/{}?last=1", ""),
    "POST": (Action.WRITE, "/v1/record/{}", '[{"PROPERTY": "VALUE"}]'),
    "DELETE": (Action.DELETE, "/v1/data/{}/KEY", ""),
}
SIGNATURES = {
    Signature.NONE: "Not signed",
    Signature.RIGHT: "Signed with its signing secret",
    Signature.OTHER_SECRET: "Signed with another secret",
    Signature.SLOW_CLOCK: f"Signed by a clock {SLOW_CLOCK.seconds // 60} minutes slow",
}


class TrialForm(forms.Form):
    """A request on one dataset. A calling page is sent as Origin, or as Referer when it has a path."""

    method = forms.ChoiceField(
        label="Method",
        choices=[(method, f"{method}: {action}") for method, (action, _, _) in REQUESTS.items()],
    )
    dataset = forms.CharField(
        label="Dataset",
        max_length=200,
        help_text="Its name, or WORKSPACE/NAME.",
        error_messages={"required": "Choose a dataset."},
        widget=forms.TextInput(attrs={"class": "input mono", "list": "test-datasets", "autocomplete": "off"}),
    )
    page = forms.CharField(
        label="Origin or Referer",
        required=False,
        max_length=ADDRESS_CHARS_MAX,
        help_text="Of the page that calls. Blank: a program that sends neither.",
        widget=forms.TextInput(
            attrs={"class": "input mono", "autocomplete": "off", "placeholder": "https://www.example.com"}
        ),
    )
    signature = forms.ChoiceField(
        label="Signature", required=False, choices=[(one.value, text) for one, text in SIGNATURES.items()]
    )
    at = forms.ChoiceField(
        label="When",
        required=False,
        choices=[(NOW, "Now"), (AFTER, "After activation")],
        widget=forms.RadioSelect,
    )

    def __init__(self, data: Any = None, *, token: Token, has_pending: bool, dataset: str = "") -> None:
        initial = {"method": "GET", "at": NOW, "dataset": dataset}
        super().__init__(data, initial=initial, auto_id="test_%s", label_suffix="")
        self.workspace, self.has_pending = token.workspace, has_pending

    def offered(self) -> list[str]:
        """Datasets to choose from in the form."""
        return offered(self.workspace)

    def clean_dataset(self) -> tuple[str, str]:
        """Return (workspace, name), as stored."""
        workspace, _, name = self.cleaned_data["dataset"].upper().rpartition("/")
        workspace = workspace or self.workspace.name
        if not (re.fullmatch(r"[A-Z0-9_]{1,63}", name) and re.fullmatch(r"[A-Z0-9_]{1,63}", workspace)):
            raise forms.ValidationError("Write the name of a dataset, such as PRICES or CORE/PRICES.")
        return workspace, name

    def clean_page(self) -> str:
        page: str = self.cleaned_data["page"]
        if not page.isascii() or not page.isprintable():
            raise forms.ValidationError("Write the address as a browser sends it, in ASCII.")
        return page

    @property
    def is_later(self) -> bool:
        """Whether to test the time after the activation."""
        return self.has_pending and self.cleaned_data.get("at") == AFTER

    def trial(self) -> Trial:
        """The request that a valid form describes."""
        chosen, page = self.cleaned_data, self.cleaned_data["page"]
        action, path, body = REQUESTS[chosen["method"]]
        _, protocol, rest = page.partition("://")
        is_origin = bool(protocol) and "/" not in rest
        return Trial(
            method=chosen["method"],
            path=path.format("/".join(chosen["dataset"])),
            action=action,
            datasets=(chosen["dataset"],),
            origin=page if page and is_origin else None,
            referer=page if page and not is_origin else None,
            signature=Signature(chosen["signature"] or Signature.NONE),
            body=body,
        )


def offered(workspace: Workspace) -> list[str]:
    """Datasets to choose from: some of the workspace's, and some of the shared ones."""
    own = workspace.datasets.filter(deleted_at=None).order_by("name").values_list("name", flat=True)
    shared = [CORE, PREMIUM] if workspace.has_premium else [CORE]
    others = (
        Workspace.objects.filter(name__in=shared, datasets__deleted_at=None, datasets__isnull=False)
        .exclude(pk=workspace.pk)
        .order_by("name", "datasets__name")
        .values_list("name", "datasets__name")
    )
    names = [f"{workspace.name}/{name}" for name in own[:OFFERED_MAX]]
    return names + [f"{shared}/{name}" for shared, name in others[:OFFERED_MAX]]
