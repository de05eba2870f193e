"""What a caller is told when the database is away, and that a change may have been made all the same."""

import json

import psycopg
import pytest
from django.db import OperationalError
from django.test import RequestFactory

from apperate.http.middleware import failure_response

AWAY = [psycopg.OperationalError("gone"), OperationalError("gone")]


@pytest.mark.parametrize("error", AWAY)
@pytest.mark.parametrize("method", ["GET", "HEAD", "OPTIONS"])
def test_a_read_is_to_be_tried_again(method: str, error: Exception) -> None:
    answer = failure_response(RequestFactory().generic(method, "/v1/data/ACME/PRICES"), error)

    assert (answer.status_code, answer.headers["Retry-After"]) == (503, "2")
    if method != "HEAD":
        assert "Try again in a few seconds" in json.loads(answer.content)["detail"]


@pytest.mark.parametrize("error", AWAY)
@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE"])
def test_a_write_is_to_be_looked_after_first(method: str, error: Exception) -> None:
    answer = failure_response(RequestFactory().generic(method, "/v1/record/ACME/PRICES"), error)
    problem = json.loads(answer.content)

    assert (answer.status_code, answer.headers["Retry-After"]) == (503, "2")
    assert "may or may not have been done" in problem["detail"]
    assert "Idempotency-Key" in problem["detail"]
