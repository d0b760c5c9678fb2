"""An API in this process with stores of its own, for a module of tests to share: opening one costs most of a second."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psycopg
import redis
from fastapi.testclient import TestClient

from memory_pipeline.api.app import create_app
from memory_pipeline.serving.services import Services
from memory_pipeline.settings import Settings, load_settings
from memory_pipeline_tests.api.support import Person, TestIssuer, add_person
from memory_pipeline_tests.conftest import fresh_database, redis_of_this_worker
from memory_pipeline_tests.local.host import Servers


@dataclass
class ApiStack:
    """The API, and ways to look behind it."""

    settings: Settings
    issuer: TestIssuer
    services: Services
    client: TestClient
    people: dict[str, Person] = field(default_factory=dict)

    def person(self, tenant: str = "acme", email: str = "ana@example.org", role: str = "member") -> Person:
        """Return a user, made when first asked for."""
        if email not in self.people:
            self.people[email] = add_person(self.settings, self.issuer, tenant, email, role)
        return self.people[email]

    def rows(self, statement: str, *values: object) -> list[tuple[Any, ...]]:
        """Ask the database as its superuser."""
        with self._superuser() as connection:
            return connection.execute(statement.encode(), values).fetchall()

    def execute(self, statement: str, *values: object) -> None:
        """Change the database as its superuser."""
        with self._superuser() as connection:
            connection.execute(statement.encode(), values)

    def redis_bytes(self) -> bytes:
        """Everything Redis holds, as one text to search."""
        assert self.settings.redis_url is not None
        with redis.Redis.from_url(self.settings.redis_url) as client:
            keys: Any = client.keys()
            return b"\n".join([*keys, *(client.dump(key) or b"" for key in keys)])

    def _superuser(self) -> psycopg.Connection[Any]:
        assert self.settings.postgres_admin_url is not None
        return psycopg.connect(self.settings.postgres_admin_url, options="-c search_path=memory,public")


@contextmanager
def stores(servers: Servers, template: str, **changed: object) -> Iterator[tuple[Settings, TestIssuer]]:
    """Settings on a database of their own and an emptied Redis, and the issuer that they trust."""
    with tempfile.TemporaryDirectory(prefix="api-test-") as folder, fresh_database(servers, template) as database:
        settings = load_settings(
            **{
                "home": Path(folder),
                "postgres_admin_url": database.admin_url,
                "postgres_app_url": database.app_url,
                "postgres_pipeline_url": database.pipeline_url,
                "redis_url": redis_of_this_worker(servers),
                "chroma_url": servers.chroma_url,
                **changed,
            }
        )
        yield settings, TestIssuer(Path(folder))


@contextmanager
def running(settings: Settings, issuer: TestIssuer) -> Iterator[ApiStack]:
    """The API on these stores."""
    with (
        Services(settings, settle_seconds=0) as services,
        TestClient(create_app(services), raise_server_exceptions=False) as client,
    ):
        yield ApiStack(settings, issuer, services, client)


@contextmanager
def api_stack(servers: Servers, template: str, **changed: object) -> Iterator[ApiStack]:
    """The API on stores of its own."""
    with stores(servers, template, **changed) as (settings, issuer), running(settings, issuer) as stack:
        yield stack
