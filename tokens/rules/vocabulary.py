"""The words and numbers that the token pages, the Tokens API and its documentation share. Pure."""

from enum import StrEnum

# How long an old value works after a rotation: seconds → words; and the default.
OVERLAPS = {0: "at once", 3_600: "in 1 hour", 86_400: "in 24 hours", 604_800: "in 7 days"}
OVERLAP_SECONDS = 86_400

# What a row of a usage series is grouped by, besides its day.
USAGE_BY = ("day", "dataset", "operation", "outcome")


class Signature(StrEnum):
    """How a request is signed: what its sender did right or wrong."""

    NONE = "none"
    RIGHT = "right"
    OTHER_SECRET = "other-secret"  # noqa: S105  The name of a fault, not a password.
    SLOW_CLOCK = "slow-clock"
