"""What each plan allows. A plan is a setting of the workspace, not billing. Source: docs/api.md."""

from dataclasses import dataclass

GIGABYTE = 10**9


@dataclass(frozen=True, slots=True)
class Plan:
    name: str
    title: str
    tokens_max: int
    datasets_max: int
    storage_bytes_max: int | None
    audit_days: int
    requests_per_second: int
    signs: str  # "no", "legacy" (only workspaces with the legacy flag) or "yes"


PLANS = {
    plan.name: plan
    for plan in (
        Plan("launch", "Launch", 2, 20, 10 * GIGABYTE, 1, 10, "no"),
        Plan("grow", "Grow", 50, 100, 250 * GIGABYTE, 3, 100, "legacy"),
        Plan("scale", "Scale", 1_000, 5_000, 4_000 * GIGABYTE, 30, 1_000, "legacy"),
        Plan("business", "Business", 10_000, 50_000, None, 365, 5_000, "yes"),
    )
}


def may_require_signatures(plan: str, *, is_legacy: bool) -> bool:
    """Whether tokens on this plan may be set to require signed requests."""
    signs = PLANS[plan].signs
    return signs == "yes" or (signs == "legacy" and is_legacy)
