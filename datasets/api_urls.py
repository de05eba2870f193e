"""The routes of the data plane, below /v1/. Segments are decoded one by one, after the path was split."""

from collections.abc import Awaitable, Callable
from typing import Any

from asgiref.sync import markcoroutinefunction
from django.http import HttpResponseBase
from django.urls import path, re_path, register_converter

from apperate.data_plane import Segment
from apperate.problems import problem_response
from apperate.refusals import Refusal
from datasets import api, api_catalog, api_jobs, api_status, api_writing

register_converter(Segment, "segment")
View = Callable[..., Awaitable[HttpResponseBase]]


class ByMethod:
    """One path, a view per method; HEAD is answered as GET. Any other is a 405 naming what is right."""

    def __init__(self, **views: View) -> None:
        self.views: dict[str, View] = views | ({"HEAD": views["GET"]} if "GET" in views else {})
        self.policy = {method: getattr(view, "policy", None) for method, view in views.items()}
        markcoroutinefunction(self)

    async def __call__(self, request: Any, **parts: str) -> HttpResponseBase:
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


DATA = "data/<segment:workspace>/<segment:name>"
urlpatterns = [
    path("status", ByMethod(GET=api_status.status)),
    path("datasets/<segment:workspace>", ByMethod(POST=api_catalog.create_dataset)),
    path(DATA, ByMethod(GET=api.read_data, POST=api_jobs.ingest_data, DELETE=api_writing.delete_data)),
    path(f"{DATA}/<segment:key>", ByMethod(GET=api.read_data, DELETE=api_writing.delete_data)),
    path(
        f"{DATA}/<segment:key>/<segment:subkey>", ByMethod(GET=api.read_data, DELETE=api_writing.delete_data)
    ),
    path(f"{DATA}/<segment:key>/<segment:subkey>/<segment:date>", ByMethod(DELETE=api_writing.delete_data)),
    path("record/<segment:workspace>/<segment:name>", ByMethod(POST=api_writing.write_records)),
    path("jobs/<segment:workspace>/ingest", ByMethod(GET=api_jobs.read_jobs, POST=api_jobs.create_job)),
    path("jobs/<segment:workspace>/ingest/<segment:job_id>", ByMethod(GET=api_jobs.read_job)),
    re_path(
        r"^jobs/(?P<workspace>[^/]+)/ingest/(?P<job_id>[^/]+)/(?P<log>invalid-records-log)$",
        ByMethod(GET=api_jobs.read_job),
    ),
    path("jobs/<segment:workspace>/<segment:job_id>", ByMethod(GET=api_jobs.cancel_job)),
    re_path(r"^", api_status.no_such_route),
]
