"""Probes come from inside: by address, without https, and without the proxy's headers."""

import http.client

import pytest
from django.conf import LazySettings
from django.core.exceptions import ImproperlyConfigured
from django.http import HttpResponse
from django.test import Client, RequestFactory

from apperate.http.middleware import RequestId
from apperate.management.commands import up


@pytest.fixture
def in_production(settings: LazySettings) -> None:
    settings.ALLOWED_HOSTS = ["data.example.com"]
    settings.SECURE_SSL_REDIRECT = True
    settings.SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https")


@pytest.mark.django_db
@pytest.mark.usefixtures("in_production")
@pytest.mark.parametrize("host", ["127.0.0.1:8000", "10.0.0.7", "data.example.com"])
def test_probes_are_answered_under_any_host_and_without_https(host: str) -> None:
    for path in ("/livez", "/readyz"):
        for method in ("get", "head"):
            answer = getattr(Client(), method)(path, headers={"Host": host})
            assert (answer.status_code, answer.headers["X-Content-Type-Options"]) == (200, "nosniff")
        assert Client().post(path, headers={"Host": host}).status_code == 405
    assert Client().get("/", headers={"Host": "127.0.0.1"}).status_code == http.client.BAD_REQUEST


@pytest.mark.parametrize(
    ("proxies", "given", "is_taken"),
    [
        (1, "0f8fad5b-d9cb-469f-a165-70867728950e", True),
        (1, "a" * 64, True),
        (0, "0f8fad5b-d9cb-469f-a165-70867728950e", False),
        (1, "short", False),
        (1, "a" * 65, False),
        (1, 'quote"12345678', False),
        (1, "line\n12345678", False),
        (1, "", False),
    ],
)
def test_the_id_of_a_trusted_proxy_is_the_requests_own(
    settings: LazySettings, proxies: int, given: str, is_taken: bool
) -> None:
    settings.TRUSTED_PROXIES = proxies
    request = RequestFactory().get("/", headers={"X-Request-Id": given})

    answer = RequestId(lambda _: HttpResponse())(request)

    assert (answer.headers["X-Request-Id"] == given) == is_taken
    assert len(answer.headers["X-Request-Id"]) >= 8


def test_https_without_a_trusted_proxy_is_refused_at_the_start(settings: LazySettings) -> None:
    """Each request would look like http, and be redirected for ever."""
    settings.SERVES_HTTPS, settings.TRUSTED_PROXIES = True, 0
    with pytest.raises(ImproperlyConfigured, match="APPERATE_TRUSTED_PROXIES is 0"):
        up.refuse_unseen_https()

    settings.TRUSTED_PROXIES = 1
    up.refuse_unseen_https()
    settings.SERVES_HTTPS, settings.TRUSTED_PROXIES = False, 0
    up.refuse_unseen_https()
