"""The bodies of the Tokens API as JSON Schema, for the OpenAPI documents. Pure."""

from collections.abc import Callable, Mapping
from typing import Any

from datasets.openapi.schemas import COUNT, FLAG, TEXT, array, nullable, record, ref
from tokens.rules.permissions import Action
from tokens.rules.settings_table import SETTINGS as SETTINGS_TABLE
from tokens.rules.settings_table import Kind, Setting, with_permissions
from tokens.rules.vocabulary import OVERLAPS, USAGE_BY, Signature

Json = dict[str, Any]
TIME: Json = TEXT | {"format": "date-time", "description": "UTC, to the second."}
ACTIONS = array({"enum": [action.value for action in Action]})
STATUSES = ("activating", "active", "pending", "disabled", "expired", "deleted")
_KINDS: Mapping[Kind, Callable[[Setting], Json]] = {
    Kind.SWITCH: lambda _: FLAG,
    Kind.COUNT: lambda setting: nullable(COUNT | ({"minimum": setting.lowest} if setting.lowest else {})),
    Kind.DOMAINS: lambda _: array(TEXT),
}
SETTINGS: Json = dict(
    with_permissions(
        [(setting.api_name, _KINDS[setting.kind](setting)) for setting in SETTINGS_TABLE],
        ("datasets", {"type": "object", "additionalProperties": ACTIONS}),
        ("allDatasets", ACTIONS),
    )
)
OWN: Json = {
    "id": TEXT,
    "type": {"enum": ["publishable", "secret"]},
    "nickname": TEXT,
    "status": {"enum": list(STATUSES)},
    "createdAt": TIME,
    "lastUsedAt": nullable(TIME),
    "expiresAt": nullable(TIME),
    "settings": {"anyOf": [ref("TokenSettings"), {"type": "null"}], "description": "Those in force."},
    "pending": {
        "anyOf": [
            record({"settings": ref("TokenSettings"), "effectiveAt": TIME}),
            {"type": "null"},
        ]
    },
    "usage": record({"creditsUsed": COUNT, "creditsRemaining": nullable(COUNT), "resetsAt": TIME}),
}
TOKEN: Json = OWN | {
    "token": TEXT | {"description": "The value; masked for the secret token."},
    "createdBy": nullable(TEXT),
}
NEW: Json = {
    "nickname": TEXT | {"maxLength": 60},
    "settings": ref("TokenSettingsChanges"),
    "expiresAt": nullable(TIME),
}
RESULT: Json = {
    "at": TIME,
    "allowed": FLAG,
    "check": nullable(TEXT | {"description": "The check that stops the request."}),
    "refusal": {"anyOf": [ref("Problem"), {"type": "null"}]},
    "checks": array(
        record(
            {
                "name": TEXT,
                "passed": nullable(FLAG | {"description": "null: there was nothing to ask."}),
                "detail": TEXT,
            }
        )
    ),
}
TOKEN_SCHEMAS: Mapping[str, Json] = {
    "TokenSettings": record(SETTINGS),
    "TokenSettingsChanges": record(SETTINGS, *SETTINGS),
    "Token": record(TOKEN),
    "OwnToken": record({"workspace": TEXT, **OWN}),
    "NewToken": record(NEW | {"importValue": TEXT}, *NEW, "importValue"),
    "TokenChanges": record(NEW, *NEW),
    "RotatedToken": record(TOKEN | {"oldValueEndsAt": TIME}),
    "Rotation": record({"overlapSeconds": {"enum": list(OVERLAPS)}}, "overlapSeconds"),
    "Nothing": record({}),
    "TokenTestRequest": record(
        {
            "method": {"enum": ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"]},
            "path": TEXT | {"description": "With its query, as it is sent: /v1/data/WORKSPACE/DATASET."},
            "origin": nullable(TEXT),
            "referer": nullable(TEXT),
            "signature": {
                "enum": [one.value for one in Signature],
                "description": "How it is signed: what its sender has done right or wrong.",
            },
            "at": nullable(TIME | {"description": "A moment to come, within a year; now without one."}),
        },
        "origin", "referer", "signature", "at",
    ),
    "TokenTestResult": record(RESULT),
    "TokenTest": record(
        RESULT
        | {
            "now": ref("TokenTestResult"),
            "afterActivation": {"anyOf": [ref("TokenTestResult"), {"type": "null"}]},
            "curl": TEXT | {"description": "The request as a command; a secret value is left out."},
        }
    ),
    "TokenRefusal": record(
        {
            "code": TEXT,
            "title": TEXT,
            "dataset": nullable(TEXT),
            "site": nullable(TEXT | {"description": "The host of the page that called."}),
            "calls": COUNT,
            "firstAt": TIME,
            "lastAt": TIME,
            "docs": TEXT,
        }
    ),
    "TokenUsage": record(
        {
            "by": {"enum": list(USAGE_BY)},
            "from": nullable(TEXT),
            "to": nullable(TEXT),
            "series": array(
                record(
                    {
                        "date": TEXT,
                        "dataset": nullable(TEXT),
                        "operation": TEXT,
                        "outcome": TEXT,
                        "calls": COUNT,
                        "refused": COUNT,
                        "records": COUNT,
                        "credits": COUNT,
                        "coreCredits": COUNT,
                    },
                    "dataset", "operation", "outcome",
                )
            ),
        }
    ),
}  # fmt: skip
