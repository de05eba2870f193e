"""An example request for a dataset in three languages, with its current answer."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from urllib.parse import urlencode

from django.conf import settings
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString

from datasets import selectors
from datasets.models import Dataset
from tokens.models import Token

LANGUAGES = {"http": "HTTP", "python": "Python", "javascript": "JavaScript"}
PLACEHOLDER = "YOUR_TOKEN"


@dataclass(frozen=True, slots=True)
class Example:
    """`path` is what the page shows, `code` the whole request in a language; `run_url` opens it."""

    language: str
    path: str
    code: SafeString
    answer: SafeString | None
    run_url: str | None
    tokens: list[Token]
    token: Token | None

    @property
    def languages(self) -> list[tuple[str, str, bool]]:
        """(value, title, whether it is the current one)."""
        return [(value, title, value == self.language) for value, title in LANGUAGES.items()]


def of_dataset(dataset: Dataset, *, language: str, chosen: str, now: datetime) -> Example:
    """The last record, read with the chosen token if it reads from anywhere, else with the oldest that does.

    `chosen` is a token's public id.
    """
    language = language if language in LANGUAGES else "http"
    path = f"/v1/data/{dataset.workspace.name}/{dataset.name}"
    record = selectors.last_record(dataset, now=now)
    tokens = selectors.open_tokens(dataset, now=now)
    token = next((found for found in tokens if found.public_id == chosen), tokens[0] if tokens else None)
    value = token.value if token else PLACEHOLDER
    run_url = f"{path}?{urlencode({'last': 1, 'token': value})}" if token else None
    return Example(
        language=language,
        path=f"{path}?last=1",
        code=code_of(language, f"{settings.PUBLIC_URL}{path}", value),
        answer=selectors.pretty(record) if record else None,
        run_url=run_url,
        tokens=tokens,
        token=token,
    )


def code_of(
    language: str, url: str, token: str, pairs: Sequence[tuple[str, str]] = (("last", "1"),)
) -> SafeString:
    """The request as code with syntax highlighting. `pairs` are its parameters, without the token."""
    address = f"{url}?{urlencode([*pairs, ('token', token)])}"
    match language:
        case "python":
            lines = format_html_join(
                "",
                '        <span class="s">{}</span>: <span class="{}">{}</span>,\n',
                (
                    (json.dumps(name), *(("n", text) if is_count(text) else ("s", json.dumps(text))))
                    for name, text in (*pairs, ("token", token))
                ),
            )
            return format_html(
                '<span class="k">import</span> requests\n\n'
                "records = requests.get(\n"
                '    <span class="s">{}</span>,\n'
                "    params={{\n{}    }},\n"
                ").json()",
                json.dumps(url),
                lines,
            )
        case "javascript":
            return format_html(
                '<span class="k">const</span> answer = <span class="k">await</span> fetch(\n'
                '  <span class="s">{}</span>);\n'
                '<span class="k">const</span> records = <span class="k">await</span> answer.json();',
                json.dumps(address),
            )
        case _:
            return format_html('<span class="k">curl</span> <span class="s">"{}"</span>', address)


def is_count(text: str) -> bool:
    """Whether code writes a parameter as a number."""
    return text.isascii() and text.isdigit() and (text == "0" or text[0] != "0") and len(text) < 16
