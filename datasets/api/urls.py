"""The routes of the data plane, below /v1/. Each segment is decoded after the path was split."""

from collections.abc import Awaitable, Callable

from asgiref.sync import markcoroutinefunction
from django.http import HttpResponseBase
from django.urls import path, re_path, register_converter

from apperate.http.data_plane import Segment
from apperate.http.problems import problem_response
from apperate.kernel.refusals import Refusal
from datasets.api import account, batch, catalog, docs, jobs, status, trials, writing
from tokens.api import endpoints
from tokens.api.answers import AT_ONCE
from tokens.gate.calls import ApiRequest
from tokens.rules.permissions import CORE

register_converter(Segment, "segment")
View = Callable[..., Awaitable[HttpResponseBase]]


class ByMethod:
    """One path with a view per method; HEAD is answered like GET. Others get a 405 naming the valid ones."""

    def __init__(self, **views: View) -> None:
        self.views: dict[str, View] = views | ({"HEAD": views["GET"]} if "GET" in views else {})
        self.policy = {method: getattr(view, "policy", None) for method, view in views.items()}
        markcoroutinefunction(self)

    async def __call__(self, request: ApiRequest, **parts: str) -> HttpResponseBase:
        view = self.views.get(request.method)
        if view is not None:
            return await view(request, **parts)
        allowed = ", ".join(sorted(self.views))
        refusal = Refusal(
            "method-not-allowed",
            f"{request.method[:20]} is not possible on this path.",
            received=request.method[:20],
            needed=allowed,
        )
        response = problem_response(refusal, request)
        response.headers["Allow"] = allowed
        return response


WORKSPACE = "<segment:workspace>"
DATASET = f"{WORKSPACE}/<segment:name>"
DATA = f"data/{DATASET}"
# Old names for reads; without a workspace they mean CORE.
TIME_SERIES = "time-series/<segment:name>"
CORE_DATA = {"workspace": CORE}
METADATA = f"metadata/{TIME_SERIES}"
ONE_TOKEN = "tokens/<segment:token_id>"  # noqa: S105  A route.
urlpatterns = [
    path("status", ByMethod(GET=status.status)),
    path("openapi-doc", ByMethod(GET=docs.read_document)),
    path(f"openapi-doc/{DATASET}", ByMethod(GET=docs.read_dataset_document)),
    path("data", ByMethod(GET=catalog.read_datasets)),
    path(f"data/{WORKSPACE}", ByMethod(GET=catalog.read_datasets)),
    path(f"datasets/{WORKSPACE}", ByMethod(GET=catalog.read_datasets, POST=catalog.create_dataset)),
    path(
        f"datasets/{DATASET}",
        ByMethod(
            GET=catalog.read_dataset,
            POST=catalog.edit_dataset,
            PATCH=catalog.edit_dataset,
            DELETE=catalog.delete_dataset,
            PUT=jobs.ingest_data,
        ),
    ),
    path(
        f"datasets/{DATASET}/<segment:key>",
        ByMethod(PUT=catalog.rename_dataset, DELETE=writing.delete_data),
    ),
    path(f"datasets/{DATASET}/<segment:key>/<segment:subkey>", ByMethod(DELETE=writing.delete_data)),
    path(DATA, ByMethod(GET=batch.read, POST=jobs.ingest_data, DELETE=writing.delete_data)),
    path(f"{DATA}/<segment:key>", ByMethod(GET=batch.read, DELETE=writing.delete_data)),
    path(f"{DATA}/<segment:key>/<segment:subkey>", ByMethod(GET=batch.read, DELETE=writing.delete_data)),
    path(f"{DATA}/<segment:key>/<segment:subkey>/<segment:date>", ByMethod(DELETE=writing.delete_data)),
    path(f"record/{DATASET}", ByMethod(POST=writing.write_records)),
    path(f"write/{DATASET}", ByMethod(POST=writing.write_records)),
    path(f"query/{DATASET}", ByMethod(GET=batch.read)),
    path(f"query/{DATASET}/<segment:key>", ByMethod(GET=batch.read)),
    path(f"query/{DATASET}/<segment:key>/<segment:subkey>", ByMethod(GET=batch.read)),
    path("time-series", ByMethod(GET=catalog.read_inventories), CORE_DATA),
    path(TIME_SERIES, ByMethod(GET=batch.read), CORE_DATA),
    path(f"{TIME_SERIES}/<segment:key>", ByMethod(GET=batch.read), CORE_DATA),
    path(f"{TIME_SERIES}/<segment:key>/<segment:subkey>", ByMethod(GET=batch.read), CORE_DATA),
    path("metadata/time-series", ByMethod(GET=catalog.read_inventories), CORE_DATA),
    path(METADATA, ByMethod(GET=catalog.read_inventory), CORE_DATA),
    path(f"{METADATA}/<segment:key>", ByMethod(GET=catalog.read_inventory), CORE_DATA),
    path(f"{METADATA}/<segment:key>/<segment:subkey>", ByMethod(GET=catalog.read_inventory), CORE_DATA),
    path("meta", ByMethod(GET=catalog.read_inventories), CORE_DATA),
    path(f"meta/{WORKSPACE}", ByMethod(GET=catalog.read_meta)),
    path(f"meta/{DATASET}", ByMethod(GET=catalog.read_meta)),
    path(f"meta/{DATASET}/<segment:key>", ByMethod(GET=catalog.read_meta)),
    path(f"meta/{DATASET}/<segment:key>/<segment:subkey>", ByMethod(GET=catalog.read_meta)),
    path("jobs/<segment:workspace>/ingest", ByMethod(GET=jobs.read_jobs, POST=jobs.create_job)),
    path("jobs/<segment:workspace>/ingest/<segment:job_id>", ByMethod(GET=jobs.read_job)),
    re_path(
        r"^jobs/(?P<workspace>[^/]+)/ingest/(?P<job_id>[^/]+)/(?P<log>invalid-records-log)$",
        ByMethod(GET=jobs.read_job),
    ),
    path("jobs/<segment:workspace>/<segment:job_id>", ByMethod(GET=jobs.cancel_job)),
    path("account/metadata", ByMethod(GET=account.read_metadata)),
    path("account/usage", ByMethod(GET=account.read_usage)),
    path("account/usage/<segment:usage_type>", ByMethod(GET=account.read_usage)),
    path(
        "account/messagebudget",
        ByMethod(GET=account.set_message_budget, POST=account.set_message_budget),
    ),
    path("account/payasyougo", ByMethod(GET=account.set_pay_as_you_go, POST=account.set_pay_as_you_go)),
    path("logs/<segment:workspace>", ByMethod(GET=account.read_logs)),
    path("generate-schema/<segment:workspace>", ByMethod(POST=account.generate_schema)),
    path(f"generate-schema/{DATASET}", ByMethod(GET=account.read_schema)),
    path("token", ByMethod(GET=endpoints.read_own)),
    path("tokens", ByMethod(GET=endpoints.read_tokens, POST=endpoints.create_token)),
    path(
        ONE_TOKEN,
        ByMethod(GET=endpoints.read_token, PATCH=endpoints.edit_token, DELETE=endpoints.delete_token),
    ),
    *(path(f"{ONE_TOKEN}/{what}", ByMethod(POST=endpoints.at_once(what))) for what in AT_ONCE),
    path(f"{ONE_TOKEN}/rotate", ByMethod(POST=endpoints.rotate_token)),
    path(f"{ONE_TOKEN}/test", ByMethod(POST=trials.test_token)),
    path(f"{ONE_TOKEN}/refusals", ByMethod(GET=endpoints.read_refusals)),
    path(f"{ONE_TOKEN}/usage", ByMethod(GET=endpoints.read_usage)),
    re_path(r"^", status.no_such_route),
]
