"""A worker that is about to end: clients with a kept connection are told, so that none is cut.

    begin()            from now on each answer closes its connection
    mark(response)     adds `Connection: close` if the worker is leaving

Whoever closes a kept connection cannot know whether the next request is already on its way.
"""

from django.http import HttpResponseBase

_is_leaving = False


def begin() -> None:
    global _is_leaving
    _is_leaving = True


def mark(response: HttpResponseBase) -> None:
    if _is_leaving:
        response.headers["Connection"] = "close"
