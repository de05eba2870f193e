"""A dataset's docs page: the request that the reader put together, as code and as a form.

    request_of(dataset, given, now=…) -> DocsRequest    with the chosen token and the parameters of the form
    refusals() -> list                                  how a read may be refused

The form has the rows of the one parameter table; nothing is checked here, because the API's own refusal
explains faults better, and trying it is the purpose of the page.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from urllib.parse import quote, urlencode

from django.conf import settings
from django.http import HttpResponseBase
from django.shortcuts import render
from django.views.decorators.http import require_safe

from apperate.accounts.decorators import MemberRequest, workspace_member
from apperate.database.clock import database_now
from apperate.http.parameters import Parameter
from apperate.kernel.refusals import REFUSALS
from datasets import selectors
from datasets.models import Dataset
from datasets.openapi.operations import READ_DATA
from datasets.pages import examples
from datasets.pages.datasets import load
from datasets.query import parameters
from tokens.models import Status, Token
from tokens.rules.token_format import TokenKind

LANGUAGES = {"curl": "curl", "python": "Python", "javascript": "JavaScript"}
TOKENS_SHOWN = 200
TEXT_CHARS_MAX = 500
# Parameters that most requests use; the rest of the table is in a list that opens.
FIRST = ("last", "first", "from", "to", "range", "filter", "where", "format")
# Answers that a page cannot show: a script, and a file of any size.
NOT_TRIED = frozenset({"callback", "export"})
DEFAULT = {"last": "1"}


@dataclass(frozen=True, slots=True)
class Choice:
    """A publishable token in the list. `reads`: it can read the dataset from anywhere, now."""

    token: Token
    reads: bool
    is_chosen: bool

    @property
    def title(self) -> str:
        return f"{self.token.nickname} · {self.token.masked}" if self.token.nickname else self.token.masked


@dataclass(frozen=True, slots=True)
class Field:
    """One parameter as a form field; `options` are (value, title, whether chosen)."""

    name: str
    help: str
    value: str
    placeholder: str
    is_count: bool
    options: tuple[tuple[str, str, bool], ...] = ()


@dataclass(frozen=True, slots=True)
class DocsRequest:
    """A read as the page shows it. `url` includes the token, `shown` is the path without it."""

    language: str
    choices: tuple[Choice, ...]
    key: str
    subkey: str
    fields: tuple[Field, ...]
    more_fields: tuple[Field, ...]
    path: str
    pairs: tuple[tuple[str, str], ...]

    @property
    def token(self) -> Token | None:
        return next((choice.token for choice in self.choices if choice.is_chosen), None)

    @property
    def shown(self) -> str:
        return self.path + (f"?{urlencode(self.pairs)}" if self.pairs else "")

    @property
    def url(self) -> str:
        """The answer's URL on this host; empty without a token."""
        token = self.token
        return f"{self.path}?{urlencode([*self.pairs, ('token', token.value)])}" if token else ""

    @property
    def code(self) -> str:
        token = self.token
        value = token.value if token else examples.PLACEHOLDER
        return examples.code_of(self.language, f"{settings.PUBLIC_URL}{self.path}", value, self.pairs)

    @property
    def languages(self) -> list[tuple[str, str, bool]]:
        """(query string of the page, title, whether it is the current one)."""
        named = (
            ("token", self.token.public_id if self.token else ""),
            ("key", self.key),
            ("subkey", self.subkey),
        )
        kept = [(name, text) for name, text in named if text] + list(self.pairs)
        return [
            (urlencode([*kept, ("lang", value)]), title, value == self.language)
            for value, title in LANGUAGES.items()
        ]

    @property
    def has_more(self) -> bool:
        """Whether a parameter that is hidden at first has a value."""
        return any(field.value or any(chosen for value, _, chosen in field.options if value)
                   for field in self.more_fields)  # fmt: skip


def request_of(dataset: Dataset, given: Mapping[str, str], *, now: datetime) -> DocsRequest:
    """The request in the page's query string; by default the latest record."""
    values = {name: text.strip()[:TEXT_CHARS_MAX] for name, text in given.items()}
    known = [found for name, found in parameters.of("read").items() if name not in NOT_TRIED]
    if not any(name in values for name in ("key", *(found.name for found in known))):
        values |= DEFAULT
    language = values.get("lang", "")
    key, subkey = values.get("key", ""), values.get("subkey", "")
    parts = [part for part in (key, subkey if key else "") if part]
    path = "/".join(
        ["/v1/data", dataset.workspace.name, dataset.name, *(quote(part, safe="") for part in parts)]
    )
    fields = {found.name: _field(found, values.get(found.name, ""), dataset) for found in known}
    return DocsRequest(
        language=language if language in LANGUAGES else "curl",
        choices=token_choices(dataset, values.get("token", ""), now=now),
        key=key,
        subkey=subkey,
        fields=tuple(fields[name] for name in FIRST),
        more_fields=tuple(field for name, field in fields.items() if name not in FIRST),
        path=path,
        pairs=tuple((found.name, values[found.name]) for found in known if values.get(found.name)),
    )


def token_choices(dataset: Dataset, chosen: str, *, now: datetime) -> tuple[Choice, ...]:
    """The workspace's publishable tokens, those that can read the dataset first; one of them is chosen."""
    kept = dataset.workspace.tokens.kept().oldest_first().with_versions()
    tokens: Iterable[Token] = kept.filter(kind=TokenKind.PUBLISHABLE)[:TOKENS_SHOWN]
    usable = [token for token in tokens if token.value and token.status(now=now) is not Status.DELETED]
    found = [(token, selectors.reads_freely(token, dataset, now=now)) for token in usable]
    found.sort(key=lambda pair: not pair[1])
    named = next((token.public_id for token, _ in found if token.public_id == chosen), "")
    named = named or (found[0][0].public_id if found else "")
    return tuple(Choice(token, reads, token.public_id == named) for token, reads in found)


def _field(found: Parameter, value: str, dataset: Dataset) -> Field:
    options: list[str] = list(found.schema.get("enum", ()))
    if found.schema["type"] == "boolean":
        options = ["true", "false"]
    if found.name == "dateField":
        options = list(dataset.schema.date_names)
    if found.name == "sort":
        options = ["asc", "desc"]
    if value and options and value not in options:
        options.append(value)
    listed = [("", "Not sent"), *((option, option) for option in options)] if options else []
    return Field(
        name=found.name,
        help=f"{found.summary[:1].upper()}{found.summary[1:]}",
        value=value,
        placeholder=found.example,
        is_count=found.schema["type"] == "integer",
        options=tuple((text, title, text == value) for text, title in listed),
    )


def refusals() -> list[tuple[int, str, str]]:
    """(status, code, title) of every refusal that a read may get."""
    return [(REFUSALS[code][0], code, REFUSALS[code][1]) for code in READ_DATA.codes]


# --- views ---------------------------------------------------------------------------------------


@require_safe
@workspace_member
def dataset_docs(request: MemberRequest, name: str) -> HttpResponseBase:
    """Its form submits to itself: htmx gets only the request, and the page then calls the API."""
    dataset = load(request, name)
    asked = request_of(dataset, request.GET.dict(), now=database_now())
    context = {
        "dataset": dataset,
        "asked": asked,
        "columns": selectors.columns_of(dataset),
        "parameters": list(parameters.of("read").values()),
        "refusals": refusals(),
    }
    response = render(
        request, "datasets/docs.html#request" if request.htmx else "datasets/docs.html", context
    )
    response.headers["Vary"] = "HX-Request"
    return response
