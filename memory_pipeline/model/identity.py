"""Who is asking: what a verified token says, and the person and tenant it stands for."""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

import msgspec


class Claims(msgspec.Struct, frozen=True, kw_only=True):
    """What is used of a token whose signature, issuer, audience and times have been verified."""

    issuer: str
    subject: str
    expires_at: datetime
    email: str | None = None
    """The e-mail where the issuer says that it has verified it; else None."""


class Principal(msgspec.Struct, frozen=True, kw_only=True):
    """The user on whose behalf a request acts. Made of the database alone; nothing in it comes from the request."""

    tenant_id: UUID
    user_id: UUID
    display_name: str
    email: str
    issuer: str
    subject: str
    session_hash: bytes
    permissions: frozenset[str]

    @property
    def actor(self) -> str:
        """How events name this user."""
        return f"user:{self.user_id}"
