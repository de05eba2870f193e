"""The guides under /docs/: their addresses, titles and sections."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Guide:
    """`slug` is its address and the name of its template; `parts` are the (id, title) of its sections."""

    slug: str
    title: str
    summary: str
    parts: tuple[tuple[str, str], ...]

    @property
    def template(self) -> str:
        return f"docs/{self.slug.replace('-', '_')}.html"


GUIDES = (
    Guide(
        "get-started",
        "Get Started",
        "From a file to a served request, in four steps",
        (
            ("dataset", "Make a dataset"),
            ("token", "Make a token"),
            ("call", "Call it"),
            ("refusals", "When the answer is no"),
            ("write", "Write and delete"),
        ),
    ),
    Guide(
        "access-and-security",
        "Access and Security",
        "What the two kinds of tokens may do, and how to keep them in hand",
        (
            ("kinds", "Two kinds of tokens"),
            ("how-many-tokens", "How many tokens do I need?"),
            ("permissions", "What a token may do"),
            ("activation", "When a change takes effect"),
            ("limits", "Credits and throttle"),
            ("signed-requests", "Signed requests"),
            ("rotate", "Rotate, disable, delete"),
        ),
    ),
    Guide(
        "restrict-domains",
        "Restrict Data Access to Specific Domains",
        "Let a token work on your sites alone, and what that does not protect from",
        (
            ("rules", "What to write"),
            ("match", "What is compared"),
            ("report-only", "Try it first"),
            ("limits", "What it does not do"),
        ),
    ),
    Guide(
        "manage-users",
        "Manage Users",
        "Invite people, and decide what they may do",
        (
            ("roles", "Who may do what"),
            ("invite", "Invite somebody"),
            ("remove", "Remove somebody"),
            ("account", "Your own account"),
        ),
    ),
    Guide(
        "older-clients",
        "Bring Clients of the Older Service",
        "Libraries and apps that were written for it work here with another address",
        (
            ("tokens", "Keep your values"),
            ("iexjs", "iexjs"),
            ("pyex", "pyEX"),
            ("iexfinance", "iexfinance"),
            ("differences", "What is different"),
        ),
    ),
)
BY_SLUG = {guide.slug: guide for guide in GUIDES}
