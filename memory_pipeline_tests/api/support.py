"""An API over real stores, with an issuer of its own and users who can ask."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import jwt
import psycopg
from cryptography.hazmat.primitives.asymmetric import ec
from jwt.algorithms import ECAlgorithm

from memory_pipeline.settings import Settings

ISSUER = "https://login.example.org/"
AUDIENCE = "memory"
PREFIX = "/api/v1/memory"

Json = dict[str, Any]


class TestIssuer:
    """Signs tokens that the API trusts: its keys lie in a file beside issuers.json."""

    __test__ = False

    def __init__(self, folder: Path) -> None:
        self._key = ec.generate_private_key(ec.SECP256R1())
        public = json.loads(ECAlgorithm.to_jwk(self._key.public_key()))
        (folder / "jwks.json").write_text(json.dumps({"keys": [{**public, "kid": "k1", "alg": "ES256", "use": "sig"}]}))
        entry = {"issuer": ISSUER, "audience": AUDIENCE, "algorithms": ["ES256"], "jwks_file": "jwks.json"}
        (folder / "issuers.json").write_text(json.dumps([entry]))

    def token(self, subject: str, **claims: object) -> str:
        now = datetime.now(UTC)
        content = {
            "iss": ISSUER,
            "aud": AUDIENCE,
            "sub": subject,
            "iat": now,
            "exp": now + timedelta(hours=1),
            "jti": uuid4().hex,
        }
        return jwt.encode({**content, **claims}, self._key, algorithm="ES256", headers={"kid": "k1"})


@dataclass(frozen=True)
class Person:
    """A user with a token."""

    tenant_id: UUID
    user_id: UUID
    token: str

    @property
    def headers(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.token}"}


def add_person(settings: Settings, issuer: TestIssuer, tenant: str, email: str, role: str = "member") -> Person:
    """Make a tenant and user where missing, with a linked identity, and return them with a token."""
    assert settings.postgres_admin_url is not None
    with psycopg.connect(settings.postgres_admin_url, options="-c search_path=memory,public") as connection:
        connection.execute("INSERT INTO tenants (slug, name) VALUES (%s, %s) ON CONFLICT DO NOTHING", [tenant, tenant])
        row = connection.execute(
            "INSERT INTO users (tenant_id, email, display_name)"
            " SELECT tenant_id, %s, initcap(split_part(%s, '@', 1)) FROM tenants WHERE slug = %s"
            " RETURNING tenant_id, user_id",
            [email, email, tenant],
        ).fetchone()
        assert row is not None
        tenant_id, user_id = row
        connection.execute("UPDATE user_roles SET role = %s WHERE user_id = %s", [role, user_id])
        connection.execute(
            "INSERT INTO identities (issuer, subject, state, tenant_id, user_id, changed_by)"
            " VALUES (%s, %s, 'linked', %s, %s, 'test')",
            [ISSUER, email, tenant_id, user_id],
        )
    return Person(tenant_id, user_id, issuer.token(email))


def message(content: str = "I live in Lisbon.", **fields: object) -> Json:
    return {"conversation_id": "c1", "role": "user", "content": content, **fields}
