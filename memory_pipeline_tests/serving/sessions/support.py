"""What the API and an administrator hold of sessions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any
from uuid import uuid4

import pytest
import redis

from memory_pipeline.model.errors import ForbiddenError, UnauthenticatedError
from memory_pipeline.model.identity import Principal
from memory_pipeline.serving.administration import Administration
from memory_pipeline.serving.sessions import Sessions, session_hash
from memory_pipeline.serving.tokens import TokenVerifier
from memory_pipeline.stores.postgres.database import Database
from memory_pipeline.stores.postgres.permissions import Author
from memory_pipeline.stores.postgres.tenants import User, find_user
from memory_pipeline.stores.redis import keys
from memory_pipeline.stores.redis.manager import RedisManager
from memory_pipeline_tests.serving.identity_provider import ISSUER, SigningKey

KEY = SigningKey("key-1")
OTHER = SigningKey("key-2")
OTHER_ISSUER = "https://other.example/"
TRUSTED_ISSUER = "https://trusted.example/"
ACTOR = "cli:test"
ORDER_OF_P256 = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551


@dataclass
class Stack:
    """What the API holds, and what an administrator holds."""

    app: Database
    admin: Database
    manager: RedisManager
    client: redis.Redis
    verifier: TokenVerifier
    sessions: Sessions

    @property
    def administration(self) -> Administration:
        return Administration(self.admin, self.manager, Author(ACTOR, uuid4()))

    def who(self, token: str) -> Principal:
        return self.sessions.authenticate(token, uuid4())

    def refusal(self, token: str) -> str:
        with pytest.raises((UnauthenticatedError, ForbiddenError)) as refused:
            self.who(token)
        return str(refused.value.code)

    def rows(self, query: Any, *values: Any) -> list[tuple[Any, ...]]:
        with self.admin.transaction() as connection:
            return connection.execute(query, values).fetchall()

    def link(self, subject: str, user: User, issuer: str = ISSUER) -> bool:
        return self.administration.link_identity(issuer, subject, user, unseen=True)

    def revoke(self, subject: str, issuer: str = ISSUER) -> int:
        return self.administration.revoke_identity(issuer, subject)

    def add_user(self, email: str, tenant: str) -> User:
        tenant_id, _ = self.administration.add_tenant(tenant)
        self.administration.add_user(tenant_id, email)
        with self.admin.transaction() as connection:
            return find_user(connection, email, tenant)


def key_of(token: str) -> str:
    return keys.session(session_hash(token))


def seconds_left(stack: Stack, key: str) -> int:
    left: Any = stack.client.ttl(key)
    return int(left)


def verified(sub: str, issuer: str = TRUSTED_ISSUER, email: str = "Ana@Example.org") -> str:
    return KEY.sign(sub=sub, iss=issuer, email=email, email_verified=True)
