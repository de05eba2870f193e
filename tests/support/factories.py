"""Factories build rows; they know no rules."""

from datetime import UTC, datetime, timedelta
from typing import Any

import factory
from factory.django import DjangoModelFactory

from apperate.accounts.models import Membership, Role, User, Workspace
from datasets.models import Dataset
from tokens.models import Grant, Revision, Secret, Token
from tokens.rules import token_format
from tokens.rules.token_format import TokenKind

LONG_AGO = datetime(2026, 1, 1, tzinfo=UTC)
PASSWORD = "correct horse battery staple"

PRICES_SCHEMA = {
    "type": "object",
    "properties": {
        "ticker": {"type": "string"},
        "date": {"type": "string", "format": "date"},
        "close": {"type": "number"},
        "volume": {"type": "integer"},
    },
    "required": ["ticker", "date"],
}


class UserFactory(DjangoModelFactory):
    class Meta:
        model = User
        skip_postgeneration_save = True

    email = factory.Sequence(lambda n: f"person{n}@example.com")
    name = factory.Sequence(lambda n: f"Person {n}")

    @classmethod
    def _create(cls, model_class: Any, *args: Any, **kwargs: Any) -> User:
        return model_class.objects.create_user(password=kwargs.pop("password", PASSWORD), **kwargs)


class WorkspaceFactory(DjangoModelFactory):
    class Meta:
        model = Workspace

    name = factory.Sequence(lambda n: f"WORKSPACE_{n}")
    title = factory.LazyAttribute(lambda w: w.name.replace("_", " ").title())
    plan = "business"


class MembershipFactory(DjangoModelFactory):
    class Meta:
        model = Membership

    workspace = factory.SubFactory(WorkspaceFactory)
    user = factory.SubFactory(UserFactory)
    role = Role.USER


class DatasetFactory(DjangoModelFactory):
    class Meta:
        model = Dataset

    workspace = factory.SubFactory(WorkspaceFactory)
    name = factory.Sequence(lambda n: f"PRICES_{n}")
    schema_json = PRICES_SCHEMA
    column_mapping = {"key": "ticker", "date": "date"}


class TokenFactory(DjangoModelFactory):
    """A publishable token; `settings` are fields of its first revision, in force since LONG_AGO."""

    class Meta:
        model = Token
        skip_postgeneration_save = True

    workspace = factory.SubFactory(WorkspaceFactory)
    kind = TokenKind.PUBLISHABLE
    nickname = factory.Sequence(lambda n: f"Customer {n}")
    created_at = LONG_AGO

    @factory.post_generation
    def secret(token: Token, create: bool, extracted: Any, **kwargs: Any) -> None:
        value = extracted or token_format.make(TokenKind(token.kind))
        sealed = token.kind == TokenKind.SECRET
        Secret.objects.create(
            token=token,
            digest=token_format.digest(value),
            clear=None if sealed else value,
            ciphertext=b"not sealed: a test value" if sealed else None,
            masked=token_format.mask(value),
            **kwargs,
        )
        token.test_value = value  # type: ignore[attr-defined]

    @factory.post_generation
    def settings(token: Token, create: bool, extracted: Any, **kwargs: Any) -> None:
        if extracted is not False:
            RevisionFactory(
                token=token, number=1, saved_at=LONG_AGO, effective_at=LONG_AGO, **(extracted or {}), **kwargs
            )


class RevisionFactory(DjangoModelFactory):
    """One version of a token's settings; `grants` maps datasets to words like "read write"."""

    class Meta:
        model = Revision
        skip_postgeneration_save = True

    token = factory.SubFactory(TokenFactory)
    number = factory.LazyAttribute(lambda r: r.token.revisions.count() + 1)
    saved_at = factory.LazyFunction(lambda: datetime.now(UTC))
    effective_at = factory.LazyAttribute(lambda r: r.saved_at + timedelta(seconds=120))

    @factory.post_generation
    def grants(revision: Revision, create: bool, extracted: Any, **kwargs: Any) -> None:
        for dataset, actions in (extracted or {}).items():
            flags = {f"can_{action}": True for action in actions.split()}
            Grant.objects.create(revision=revision, dataset=dataset, **flags)
