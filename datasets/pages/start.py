"""steps_of(): how far a workspace is from its first served request. None of it is stored.

steps_of(workspace, now=…) -> Steps
add_sample(workspace, by=…, now=…) -> IngestJob | Refusal
add_token(workspace, by=…, now=…) -> Token | Refusal
"""

from dataclasses import dataclass
from datetime import datetime

from django.conf import settings
from django.contrib import messages
from django.http import HttpResponseBase
from django.shortcuts import redirect, render
from django.views.decorators.http import require_POST, require_safe
from django.views.decorators.vary import vary_on_headers

from apperate.accounts.addresses import client_address
from apperate.accounts.decorators import MemberRequest, workspace_admin, workspace_member
from apperate.accounts.models import User, Workspace
from apperate.database.clock import database_now
from apperate.kernel.refusals import REFUSALS, Refusal
from datasets.jobs import uploads
from datasets.models import Dataset, IngestJob
from tokens.models import Token, TokenRefusal, UsageCounter
from tokens.rules.permissions import Action, Settings
from tokens.services import lifecycle

SAMPLE, SAMPLE_NAME, SAMPLE_TITLE = (
    settings.BASE_DIR / "demo" / "lincoln_weather.csv",
    "WEATHER",
    "Weather in Lincoln",
)
NICKNAME = "First token"


@dataclass(frozen=True, slots=True)
class Call:
    """A publishable token's last answered call: the name of its dataset, and how often."""

    dataset: str
    calls: int
    at: datetime


@dataclass(frozen=True, slots=True)
class Steps:
    """`token` may read `dataset` by its last saved settings. `refusal`: code and title of the last one."""

    dataset: Dataset | None
    token: Token | None
    starts_at: datetime | None
    call: Call | None
    refusal: tuple[str, str] | None

    @property
    def is_done(self) -> bool:
        return self.call is not None

    @property
    def number(self) -> int:
        """The next step: 1 a dataset, 2 a token, 3 a call; 4 when all is done."""
        if self.dataset is None:
            return 1
        return 2 if self.token is None else 4 if self.call else 3


def is_new(workspace: Workspace) -> bool:
    """Whether there is no dataset to request yet, or no token to request it with."""
    has_token = workspace.tokens.filter(kind="publishable", deleted_at=None).exists()
    return not has_token or not workspace.datasets.kept().exists()


def steps_of(workspace: Workspace, *, now: datetime) -> Steps:
    dataset = workspace.datasets.kept().order_by("created_at", "pk").first()
    tokens = workspace.tokens.with_versions().filter(kind="publishable", deleted_at=None)
    token = next(
        (one for one in tokens.order_by("created_at", "pk")[:50] if dataset and reads(one, dataset, now)),
        None,
    )
    starts_at = None
    if token is not None and (pending := token.versions(now=now).pending):
        starts_at = pending.effective_at
    ids = [token.pk] if token else []
    used = (
        UsageCounter.objects.filter(token_id__in=ids, outcome="ok", is_demo=False).order_by("-minute").first()
    )
    refused = TokenRefusal.objects.filter(token_id__in=ids, code__in=REFUSALS).order_by("-last_at").first()
    call = None
    if used is not None:
        named = Dataset.objects.filter(pk=used.dataset_id).values_list("name", flat=True).first()
        call = Call(named or "", used.calls, used.minute)
    refusal = (refused.code, REFUSALS[refused.code][1]) if refused and not call else None
    return Steps(dataset, token, starts_at, call, refusal)


def reads(token: Token, dataset: Dataset, now: datetime) -> bool:
    """Whether the token may read the dataset by its last saved settings."""
    saved, _ = lifecycle.saved(token, now=now)
    return Action.READ in saved.all_datasets or Action.READ in saved.grants.get(dataset.pk, frozenset())


def add_sample(workspace: Workspace, *, by: User, now: datetime) -> IngestJob | Refusal:
    """Make a dataset from the sample file, in the same way as from any file."""
    with SAMPLE.open("rb") as file:
        upload = uploads.keep(
            workspace=workspace, by=by, name=SAMPLE_NAME, file_name=SAMPLE.name, chunks=iter(file), now=now
        )
    if isinstance(upload, Refusal):
        return upload
    mapping = {role: name for role, name in upload.column_mapping.items() if name}
    job = uploads.finish(
        upload=upload, workspace=workspace, mapping=mapping, title=SAMPLE_TITLE, by=by, now=now
    )
    if isinstance(job, Refusal):
        uploads.discard(upload)
    return job


def add_token(workspace: Workspace, *, by: User, now: datetime, address: str = "") -> Token | Refusal:
    """Make a publishable token that reads every dataset, including future ones."""
    settings = Settings(all_datasets=frozenset({Action.READ}))
    return lifecycle.create_publishable_token(
        workspace=workspace, by=by, now=now, nickname=NICKNAME, settings=settings, address=address
    )


# --- views ---------------------------------------------------------------------------------------


@require_safe
@vary_on_headers("HX-Request")
@workspace_member
def first_steps(request: MemberRequest) -> HttpResponseBase:
    """The steps, ticked off by what exists; htmx polls them until a call has come."""
    now = database_now()
    steps = steps_of(request.workspace, now=now)
    context = {"steps": steps, "now": now, "api_base": f"{settings.PUBLIC_URL}/v1"}
    return render(request, "datasets/start.html#steps" if request.htmx else "datasets/start.html", context)


@require_POST
@workspace_admin
def start_sample(request: MemberRequest) -> HttpResponseBase:
    # request.workspace is a lazy proxy, not an instance of the class that the job's foreign key needs.
    job = add_sample(request.membership.workspace, by=request.user, now=database_now())
    if isinstance(job, Refusal):
        messages.error(request, job.detail)
    else:
        messages.success(request, f"{SAMPLE_NAME} is made, and its records are being read.")
    return redirect("datasets:start")


@require_POST
@workspace_admin
def start_token(request: MemberRequest) -> HttpResponseBase:
    token = add_token(
        request.membership.workspace, by=request.user, now=database_now(), address=client_address(request)
    )
    if isinstance(token, Refusal):
        messages.error(request, token.detail)
    else:
        messages.success(request, f"Publishable token {token.masked} created")
    return redirect("datasets:start")
