"""The API in this process, over the test run's stores."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg
import pytest
from fastapi.testclient import TestClient

from memory_pipeline.api.app import create_app
from memory_pipeline.serving.services import Services
from memory_pipeline.settings import Settings
from memory_pipeline_tests.api.support import Person, TestIssuer, add_person


@pytest.fixture
def issuer(tmp_path: Path) -> TestIssuer:
    return TestIssuer(tmp_path)


@pytest.fixture
def api_settings(settings: Settings, tmp_path: Path, issuer: TestIssuer) -> Settings:
    """The test's stores; the home folder holds the issuer's keys."""
    assert issuer is not None
    return settings.model_copy(update={"home": tmp_path})


@pytest.fixture
def services(api_settings: Settings) -> Iterator[Services]:
    with Services(api_settings, settle_seconds=0) as opened:
        yield opened


@pytest.fixture
def client(services: Services) -> Iterator[TestClient]:
    with TestClient(create_app(services), raise_server_exceptions=False) as opened:
        yield opened


@pytest.fixture
def person(api_settings: Settings, issuer: TestIssuer) -> Callable[..., Person]:
    """Make a user: `person("acme", "ana@example.org")`."""

    def make(tenant: str = "acme", email: str = "ana@example.org", role: str = "member") -> Person:
        return add_person(api_settings, issuer, tenant, email, role)

    return make


@pytest.fixture
def ana(person: Callable[..., Person]) -> Person:
    return person("acme", "ana@example.org")


@pytest.fixture
def rows(api_settings: Settings) -> Callable[..., list[tuple[object, ...]]]:
    """Ask the database as its superuser."""

    def ask(statement: str, *values: object) -> list[tuple[object, ...]]:
        assert api_settings.postgres_admin_url is not None
        with psycopg.connect(api_settings.postgres_admin_url, options="-c search_path=memory,public") as connection:
            return connection.execute(statement.encode(), values).fetchall()

    return ask
