"""A request that takes long is a line in the log, by its id; its query may hold a token, and is left out."""

import logging
from typing import Any

import pytest
from django.conf import LazySettings
from django.http import HttpResponse

from apperate.http.data_plane import DataRequest, data_scope, log_if_slow


async def receive() -> dict[str, Any]:
    return {"type": "http.request", "body": b"", "more_body": False}


def request() -> DataRequest:
    target = b"/v1/data/ACME/PRICES/A%2FB?token=pk_0000&last=1"
    path, _, query = target.partition(b"?")
    scope = {
        "type": "http", "method": "GET", "path": "/v1/data/ACME/PRICES/A/B", "raw_path": path,
        "query_string": query, "headers": [(b"host", b"testserver")],
    }  # fmt: skip
    return DataRequest(data_scope(scope), receive)


@pytest.mark.parametrize(
    ("limit_ms", "seconds", "is_logged"),
    [(2_000, 2.0, True), (2_000, 1.999, False), (1, 0.5, True), (0, 3_600.0, False)],
)
def test_what_takes_longer_than_the_limit_is_logged(
    settings: LazySettings,
    caplog: pytest.LogCaptureFixture,
    limit_ms: int,
    seconds: float,
    is_logged: bool,
) -> None:
    settings.SLOW_REQUEST_MS = limit_ms
    asked = request()
    with caplog.at_level(logging.WARNING, logger="apperate.requests"):
        log_if_slow(asked, HttpResponse(status=403), seconds=seconds)

    lines = [record.getMessage() for record in caplog.records]
    expected = (
        f"slow request milliseconds={int(seconds * 1_000)} status=403 method=GET "
        f"path=/v1/data/ACME/PRICES/A%2FB request_id={asked.request_id}"
    )
    assert lines == ([expected] if is_logged else [])
