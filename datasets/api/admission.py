"""Which token may do what: data_endpoint() for one dataset, workspace_endpoint() for a whole workspace.

The names in the path become a dataset here, and the checks of tokens.gate.access decide. The steps before and
after them are in tokens.gate.endpoint.
"""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from functools import partial, wraps

from django.http import HttpResponseBase

from apperate.database.changes import changes
from apperate.kernel.refusals import Refusal, invalid_value
from datasets.records.schema import dataset_id, is_storable
from datasets.storage import catalog
from datasets.storage.catalog import Metadata
from tokens.gate import access, calls
from tokens.gate.access import Allowed
from tokens.gate.calls import ApiRequest, View
from tokens.gate.endpoint import answered, check_rate, facts_of, first_checks
from tokens.rules.permissions import Action, Target


@dataclass(frozen=True, slots=True)
class Call(calls.Call):
    """A call on a dataset, or on a whole workspace."""

    dataset: Metadata | None

    @property
    def metadata(self) -> Metadata:
        """The dataset; data_endpoint() refuses calls without one."""
        if self.dataset is None:
            raise LookupError("a call of a workspace as a whole has no dataset")
        return self.dataset


def data_endpoint(action: Action) -> Callable[[View], Callable[..., Awaitable[HttpResponseBase]]]:
    """Run the checks first: the view gets a Call and the rest of the path."""

    def decorate(view: View) -> Callable[..., Awaitable[HttpResponseBase]]:
        @wraps(view)
        async def endpoint(request: ApiRequest, workspace: str, name: str, **rest: str) -> HttpResponseBase:
            async def admitted(is_repeat: bool) -> Call | Refusal:
                # The cache serves only reads, because only they notice stale metadata.
                fresh = is_repeat or action is not Action.READ
                return await admit(request, action, workspace, name, rest, fresh=fresh)

            return await answered(request, action, admitted, view, **rest)

        endpoint.policy = "token"  # type: ignore[attr-defined]
        return endpoint

    return decorate


def workspace_endpoint(view: View) -> Callable[..., Awaitable[HttpResponseBase]]:
    """For endpoints on a whole workspace: only its secret token may call them."""

    @wraps(view)
    async def endpoint(request: ApiRequest, workspace: str, **rest: str) -> HttpResponseBase:
        async def admitted(is_repeat: bool) -> Call | Refusal:
            return admit_secret(request, workspace)

        return await answered(request, Action.WRITE, admitted, view, **rest)

    endpoint.policy = "secret token"  # type: ignore[attr-defined]
    return endpoint


async def admit(
    request: ApiRequest, action: Action, workspace: str, name: str, rest: Mapping[str, str], *, fresh: bool
) -> Call | Refusal:
    """The checks before a view, in order; the first refusal is the answer."""
    if no := first_checks(request, action):
        return no
    token = request.checked_token
    names = (dataset_id(workspace), dataset_id(name))
    for found in names:
        if isinstance(found, Refusal):
            return found
    workspace_name, dataset_name = str(names[0]), str(names[1])
    for part, text in rest.items():
        if not is_storable(text):
            return invalid_value(part, ascii(text)[1:-1], "text without NUL characters")
    was_cached = not fresh and catalog.catalog.get((workspace_name, dataset_name)) is not None
    dataset = await catalog.find(workspace_name, dataset_name, fresh=fresh)
    target = Target(workspace_name, dataset_name, dataset.id if dataset else None)
    # Nobody may learn that another workspace's dataset exists.
    request.asked = dataset.id if dataset and workspace_name == token.workspace.name else 0
    now = changes.now()
    facts = facts_of(request, action, target)
    verdict = await access.check_access(token, facts, partial(check_rate, request), now=now)
    if isinstance(verdict, Refusal):
        if was_cached and verdict.check == "permission":
            # A missing name is queried each time, so the answer must not come sooner for one that exists.
            renewed = await catalog.find(workspace_name, dataset_name, fresh=True)
            if renewed is not None and dataset is not None and renewed.id != dataset.id:
                # The cached dataset is gone; its name now belongs to another one.
                return await admit(request, action, workspace, name, rest, fresh=True)
        return verdict
    return Call(request, token, target, dataset, action, verdict, now)


def admit_secret(request: ApiRequest, workspace: str) -> Call | Refusal:
    """The checks of workspace_endpoint(). Another workspace and a missing one get the same refusal."""
    if no := first_checks(request, Action.WRITE, needs_secret=True):
        return no
    token = request.checked_token
    name = dataset_id(workspace)
    if isinstance(name, Refusal):
        return name
    if name != token.workspace.name:
        return Refusal(
            "secret-required",
            f"This action needs the secret token of the workspace {name}, if there is one of that name.",
            check="permission",
            received="the secret token of another workspace",
            needed="the workspace's own secret token",
            token=token.public_id,
        )
    return Call(request, token, Target(name, "", None), None, Action.WRITE, Allowed(), changes.now())
