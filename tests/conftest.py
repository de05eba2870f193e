"""Fixtures for all tests: the cast, a browser, and a client of the data plane. PostgreSQL is real."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest
from django.test import Client

from apperate.accounts.models import Membership, Role, User, Workspace
from tests.factories import PASSWORD, MembershipFactory, UserFactory, WorkspaceFactory

if TYPE_CHECKING:
    from tests.data_plane_client import DataPlaneClient

DATABASE_FIXTURES = {"db", "transactional_db", "django_db_reset_sequences", "live_server", "django_db_setup"}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        fixtures = set(getattr(item, "fixturenames", ()))
        if fixtures & DATABASE_FIXTURES or item.get_closest_marker("django_db"):
            item.add_marker("database")
        if "page" in fixtures:
            item.add_marker("browser")


@pytest.fixture
def workspace(db: None) -> Workspace:
    return WorkspaceFactory(name="ACME", title="Acme")


@pytest.fixture
def owner(workspace: Workspace) -> User:
    return MembershipFactory(workspace=workspace, role=Role.PRIMARY, user__email="owner@example.com").user


@pytest.fixture
def admin(workspace: Workspace) -> User:
    return MembershipFactory(workspace=workspace, role=Role.ADMIN, user__email="admin@example.com").user


@pytest.fixture
def teammate(workspace: Workspace) -> User:
    """A member who may look and call, not manage."""
    return MembershipFactory(workspace=workspace, role=Role.USER, user__email="teammate@example.com").user


@pytest.fixture
def outsider(db: None) -> User:
    """A person of another workspace."""
    return MembershipFactory(role=Role.PRIMARY, user__email="outsider@example.com").user


@pytest.fixture
def stranger(db: None) -> User:
    """A person of no workspace at all."""
    return UserFactory(email="stranger@example.com")


def signed_in(user: User) -> Client:
    client = Client()
    assert client.login(email=user.email, password=PASSWORD)
    return client


@pytest.fixture
def as_owner(owner: User) -> Client:
    return signed_in(owner)


@pytest.fixture
def as_admin(admin: User) -> Client:
    return signed_in(admin)


@pytest.fixture
def as_teammate(teammate: User) -> Client:
    return signed_in(teammate)


@pytest.fixture
def as_outsider(outsider: User) -> Client:
    return signed_in(outsider)


@pytest.fixture
def membership(owner: User, workspace: Workspace) -> Iterator[Membership]:
    yield workspace.memberships.get(user=owner)


@pytest.fixture
def api(transactional_db: None) -> Iterator["DataPlaneClient"]:
    """The data plane, with its background work, in this process."""
    from tests.data_plane_client import DataPlaneClient  # It sets the whole application up.

    client = DataPlaneClient()
    yield client
    client.close()
