"""Queries for the dataset pages: rows of the list, counts, a live example, and a token to try it with."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime

import simplejson
from django.db import OperationalError, transaction
from django.db.models import Count, Q, QuerySet, Sum
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString

from apperate.accounts.models import Workspace
from apperate.database.clock import month_of
from apperate.kernel.json_text import DECODER
from apperate.kernel.refusals import Refusal
from datasets.models import Dataset, IngestJob
from datasets.query import parsing
from datasets.storage import limits, reads, writes
from datasets.storage.catalog import Metadata
from datasets.storage.limits import Usage
from tokens.models import Status, Token, UsageCounter
from tokens.rules.permissions import Action, Target, WorkspaceFacts, allows
from tokens.rules.token_format import TokenKind
from tokens.services import saved_settings

PAGE_ROWS = 50
JOBS_SHOWN = 5
DELETIONS_SHOWN = 10
TOKENS_TRIED = 200
EXAMPLE_CHARS_MAX = 4_000
NEARLY_PERCENT = 90
UNITS = ("B", "KB", "MB", "GB", "TB")


def size_words(size_bytes: int) -> str:
    """ "579 B", "138 KB", "1.2 GB": decimal units, like plans and disks."""
    size, unit = float(size_bytes), 0
    while size >= 999.5 and unit < len(UNITS) - 1:
        size, unit = size / 1000, unit + 1
    figures = f"{size:.1f}".removesuffix(".0") if unit and size < 9.95 else f"{size:.0f}"
    return f"{figures} {UNITS[unit]}"


@dataclass(frozen=True, slots=True)
class Row:
    """One dataset of the list. `size` is None when it could not be counted in time."""

    dataset: Dataset
    size: writes.Size | None
    running: int

    @property
    def size_words(self) -> str:
        return size_words(self.size.bytes) if self.size else ""

    @property
    def updated_at(self) -> datetime:
        changed = self.size.updated_at if self.size else None
        return max(changed, self.dataset.updated_at) if changed else self.dataset.updated_at


def rows_of(datasets: Iterable[Dataset]) -> list[Row]:
    """The rows of one page, in three queries."""
    datasets = list(datasets)
    ids = [dataset.pk for dataset in datasets]
    found = sizes(ids)
    ended = Q(status__in=IngestJob.ENDED)
    running = dict(
        IngestJob.objects.filter(dataset__in=ids)
        .exclude(ended)
        .values_list("dataset")
        .annotate(n=Count("pk"))
    )
    empty = writes.Size(0, 0, None)
    return [
        Row(dataset, found.get(dataset.pk, empty) if found is not None else None, running.get(dataset.pk, 0))
        for dataset in datasets
    ]


def sizes(ids: Sequence[int]) -> dict[int, writes.Size] | None:
    """writes.sizes(), or None when counting takes longer than a page may."""
    try:
        with transaction.atomic():
            writes.limit_statement(milliseconds=writes.COUNTING_MILLISECONDS)
            return writes.sizes(ids)
    except OperationalError:
        return None


def matching(datasets: QuerySet[Dataset], words: str) -> QuerySet[Dataset]:
    """Filter a list to datasets whose name or title contains every word."""
    for word in words.split()[:5]:
        datasets = datasets.filter(Q(name__icontains=word) | Q(title__icontains=word))
    return datasets


@dataclass(frozen=True, slots=True)
class ColumnRow:
    """One property in the table of response attributes; `role` is its part in the index."""

    name: str
    type: str
    role: str
    is_nullable: bool
    description: str


def columns_of(dataset: Dataset) -> list[ColumnRow]:
    schema = dataset.schema
    roles = {name: role for role, name in schema.column_mapping().items()}
    return [
        ColumnRow(found.name, found.type.value, roles.get(found.name, ""), found.nullable, found.description)
        for found in schema.properties
    ]


@dataclass(frozen=True, slots=True)
class Reads:
    """How often a dataset was read this month, by how many tokens, and whether the demo made some up."""

    calls: int
    tokens: int
    with_demo: bool


def reads_of(dataset: Dataset, *, now: datetime) -> Reads | None:
    """None when counting takes longer than a page may."""
    found = UsageCounter.objects.filter(
        dataset_id=dataset.pk, operation=Action.READ, outcome="ok", minute__gte=month_of(now)
    )
    try:
        with transaction.atomic():
            writes.limit_statement(milliseconds=writes.COUNTING_MILLISECONDS)
            counted = found.aggregate(
                calls=Sum("calls"),
                tokens=Count("token_id", distinct=True),
                demo=Count("pk", filter=Q(is_demo=True)),
            )
    except OperationalError:
        return None
    return Reads(counted["calls"] or 0, counted["tokens"], bool(counted["demo"]))


def metadata_of(dataset: Dataset) -> Metadata:
    """A dataset's metadata in the data plane's form."""
    return Metadata(
        dataset.pk, dataset.workspace_id, dataset.workspace.name, dataset.name, dataset.schema,
        dataset.credits_per_record, dataset.version, dataset.is_wide,
    )  # fmt: skip


def last_record(dataset: Dataset, *, now: datetime) -> str | None:
    """The JSON text of the newest record; None for a dataset without records."""
    known = metadata_of(dataset)
    query = parsing.parse([("last", "1")], known.schema, now=now)
    if isinstance(query, Refusal):
        return None
    texts = reads.read_sync(known, query).texts
    return texts[0] if texts else None


TOKENS = re.compile(r'(?P<string>"(?:[^"\\]|\\.)*")(?P<colon>\s*:)?|(?P<number>-?\d[\d.eE+-]*)')


def pretty(text: str) -> SafeString:
    """A record as indented JSON with syntax highlighting; cut when it is long."""
    written = simplejson.dumps([DECODER.decode(text)], indent=2, ensure_ascii=False, use_decimal=True)
    cut = written[:EXAMPLE_CHARS_MAX]
    parts: list[SafeString] = []
    at = 0
    for found in TOKENS.finditer(cut):
        parts.append(format_html("{}", cut[at : found.start()]))
        if found["number"] or not found["colon"]:
            parts.append(format_html('<span class="{}">{}</span>', "n" if found["number"] else "s", found[0]))
        else:
            parts.append(format_html("{}", found[0]))
        at = found.end()
    parts.append(format_html("{}", cut[at:] + ("\n…" if len(written) > len(cut) else "")))
    return format_html_join("", "{}", ((part,) for part in parts))


def open_tokens(dataset: Dataset, *, now: datetime) -> list[Token]:
    """The workspace's publishable tokens that read the dataset from anywhere, without a signature."""
    tokens = dataset.workspace.tokens.kept().oldest_first().with_versions()
    publishable = tokens.filter(kind=TokenKind.PUBLISHABLE, disabled_at=None)[:TOKENS_TRIED]
    return [token for token in publishable if reads_freely(token, dataset, now=now)]


def reads_freely(token: Token, dataset: Dataset, *, now: datetime) -> bool:
    """Whether a token reads a dataset of its workspace now, for anyone who has its value."""
    if token.status(now=now) not in {Status.ACTIVE, Status.PENDING}:
        return False
    workspace = token.workspace
    facts = WorkspaceFacts(workspace.pk, workspace.name, workspace.has_premium)
    target = Target(workspace.name, dataset.name, dataset.pk)
    versions = token.versions(now=now)
    return all(
        not settings.signed_requests
        and (not settings.allowed_domains or settings.domains_report_only)
        and allows(settings, facts, Action.READ, target)
        for settings in map(saved_settings.of_revision, filter(None, (versions.in_force, versions.pending)))
    )


@dataclass(frozen=True, slots=True)
class Stored:
    """A workspace's storage in words. Without a limit there is no percentage."""

    usage: Usage

    @property
    def used(self) -> str:
        return size_words(self.usage.used)

    @property
    def limit(self) -> str:
        return size_words(self.usage.limit) if self.usage.limit else ""

    @property
    def percent(self) -> int:
        """The used share of the limit, rounded down, so that 100 means full."""
        return min(self.usage.used * 100 // self.usage.limit, 100) if self.usage.limit else 0

    @property
    def is_full(self) -> bool:
        return self.usage.is_full

    @property
    def is_nearly_full(self) -> bool:
        return self.percent >= NEARLY_PERCENT

    @property
    def in_words(self) -> str:
        """The text shown beside the size of one dataset."""
        if not self.limit:
            return f"{self.used} in all, no limit in your plan"
        return f"{self.used} in all, of {self.limit} in your plan"


def stored_by(workspace: Workspace) -> Stored:
    return Stored(limits.usage_of(workspace.pk))
