"""The limits of sign-in are kept in the cache, and cannot be pushed out by filling it."""

import pytest
from django.core.cache import cache

pytestmark = pytest.mark.django_db
OTHERS = 400  # more than Django keeps by default


def test_what_is_kept_stays_when_many_others_are_added() -> None:
    cache.clear()
    cache.set("allauth:rl:login:ip:192.0.2.1", [1.0] * 5, timeout=3_600)

    for number in range(OTHERS):
        cache.set(f"allauth:rl:login:ip:198.51.100.{number}", [1.0], timeout=3_600)

    assert cache.get("allauth:rl:login:ip:192.0.2.1") == [1.0] * 5
    assert (
        len(cache.get_many([f"allauth:rl:login:ip:198.51.100.{number}" for number in range(OTHERS)]))
        == OTHERS
    )
    cache.clear()
