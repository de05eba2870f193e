"""Endpoints without a token: whether the service is up, and unknown routes."""

import time

import simplejson
from django.http import HttpResponse, HttpResponseBase

from apperate.http.problems import JSON, problem_response
from apperate.kernel.refusals import Refusal
from apperate.kernel.version import VERSION
from tokens.gate.calls import ApiRequest


async def status(request: ApiRequest) -> HttpResponseBase:
    """GET /v1/status."""
    document = {"status": "up", "version": VERSION, "time": int(time.time() * 1000)}
    return HttpResponse(simplejson.dumps(document), content_type=JSON)


async def no_such_route(request: ApiRequest, **parts: str) -> HttpResponseBase:
    """Every other path of the API."""
    refusal = Refusal(
        "not-found",
        "The API has no such path.",
        received=request.path[:200],
        needed="a path of the API, such as /v1/data/WORKSPACE/DATASET",
    )
    return problem_response(refusal, request)


status.policy = no_such_route.policy = "public"  # type: ignore[attr-defined]
