"""What administrators decide about tenants, users, identities and sessions.

Each decision is written to Postgres with its events in one transaction, then told to Redis. Where Redis can't be told,
Postgres holds the decision already and StoreUnavailableError says what that means; doing it again tells Redis again.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal
from uuid import UUID

from memory_pipeline.model.errors import ConflictError, InvalidRequestError, NotFoundError, StoreUnavailableError
from memory_pipeline.model.validation import Problem, check_email, check_id, check_name
from memory_pipeline.serving.cached_answers import drop_or_raise
from memory_pipeline.stores.postgres import directory
from memory_pipeline.stores.postgres.database import Connection, Database
from memory_pipeline.stores.postgres.identities import record_auth_event
from memory_pipeline.stores.postgres.permissions import Author, write_event
from memory_pipeline.stores.postgres.tenants import User, check_slug, tenant_id_of
from memory_pipeline.stores.redis import keys
from memory_pipeline.stores.redis.manager import RedisManager


class Administration:
    """The decisions of one author. `database` is of memory_pipeline.

    Methods that drop cached values raise StoreUnavailableError where Redis could not be told; all raise it where
    Postgres is away, and have decided nothing then.
    """

    def __init__(self, database: Database, redis: RedisManager, author: Author) -> None:
        self._database = database
        self._redis = redis
        self._author = author

    # -- identities and sessions --

    def link_identity(self, issuer: str, subject: str, user: User, *, unseen: bool = False) -> bool:
        """Let a subject act as a user; return False where it does already. `unseen` takes subjects that never came.

        Raises NotFoundError, and ConflictError where it is linked to another user or belongs to another tenant.
        """
        _require(check_id("issuer", issuer))
        _require(check_id("subject", subject))
        with self._database.transaction() as connection:
            found = directory.lock_identity(connection, issuer, subject)
            if found is None and not unseen:
                raise NotFoundError(
                    f"subject {subject!r} of {issuer!r} has never come: have them call the API once, or add --unseen."
                )
            if found is not None:
                _check_linkable(found, user)
            changed = found is None or found.state != "linked"
            if changed:
                directory.link_identity(
                    connection, issuer, subject, user.tenant_id, user.user_id, actor=self._author.actor
                )
                self._record(connection, "identity_linked", issuer, subject, user.tenant_id, user.user_id)
            ended = directory.ended_sessions(connection, issuer, subject)
        # Of a time when it may have been somebody else, should their end not have reached Redis.
        self._drop([keys.session(hash_) for hash_ in ended], "the identity is linked")
        return changed

    def revoke_identity(self, issuer: str, subject: str) -> int:
        """Refuse a subject from now on, and end its sessions; return how many that were. Doing it again is fine.

        Raises NotFoundError.
        """
        with self._database.transaction() as connection:
            found = directory.lock_identity(connection, issuer, subject)
            if found is None:
                raise NotFoundError(
                    f"there is no subject {subject!r} of {issuer!r}: see `memory-pipeline identity list`."
                )
            count = directory.end_sessions(connection, issuer, subject)
            if found.state != "revoked":
                directory.revoke_identity(connection, issuer, subject, actor=self._author.actor)
                self._record(connection, "identity_revoked", issuer, subject, found.tenant_id, found.user_id)
            ended = directory.ended_sessions(connection, issuer, subject)
        self._drop([keys.session(hash_) for hash_ in ended], "the identity is revoked")
        return count

    def revoke_session(self, session_hash: bytes) -> bool:
        """End one session; return False where it had ended. Its token is refused from now on, the user's others not.

        Raises NotFoundError.
        """
        with self._database.transaction() as connection:
            owner = directory.lock_session(connection, session_hash)
            if owner is None:
                raise NotFoundError(f"there is no session {session_hash.hex()}.")
            if not owner.revoked:
                directory.end_session(connection, session_hash)
                self._record(connection, "session_revoked", owner.issuer, owner.subject, owner.tenant_id, owner.user_id)
        self._drop([keys.session(session_hash)], "the session is ended")
        return not owner.revoked

    # -- users and tenants --

    def add_tenant(self, slug: str, name: str | None = None) -> tuple[UUID, bool]:
        """Return the tenant of this slug, and whether it is new. Raises NotFoundError where none can be called so."""
        check_slug(slug)
        _require(check_name("name", name or slug))
        with self._database.transaction() as connection:
            tenant_id = directory.insert_tenant(connection, slug, name or slug)
            if tenant_id is None:
                return tenant_id_of(connection, slug), False
            write_event(connection, tenant_id, "tenant_added", self._author, tenant_id, {})
        return tenant_id, True

    def add_user(self, tenant_id: UUID, email: str, display_name: str | None = None) -> UUID | None:
        """Add a user to a tenant and return the id; None where there is one. Raises InvalidRequestError."""
        _require(check_email(email))
        name = display_name or email.split("@")[0]
        _require(check_name("name", name))
        with self._database.tenant_transaction(tenant_id) as connection:
            user_id = directory.insert_user(connection, tenant_id, email, name)
            if user_id is not None:
                write_event(connection, tenant_id, "user_added", self._author, user_id, {})
        return user_id

    def set_user_status(self, user: User, status: Literal["active", "disabled"]) -> bool:
        """Let a user in, or refuse them from now on; return whether that is a change."""
        with self._database.transaction() as connection:
            changed = directory.set_user_status(connection, user.tenant_id, user.user_id, status)
            if changed:
                kind = "user_enabled" if status == "active" else "user_disabled"
                write_event(connection, user.tenant_id, kind, self._author, user.user_id, {})
        self._drop([keys.auth(user.user_id)], f"the user is {status}")
        return changed

    def set_tenant_status(self, slug: str, status: Literal["active", "suspended"]) -> bool:
        """Let the users of a tenant in, or refuse them all from now on; return whether that is a change.

        Raises NotFoundError.
        """
        with self._database.transaction() as connection:
            tenant_id = tenant_id_of(connection, slug)
            changed = directory.set_tenant_status(connection, tenant_id, status)
            if changed:
                kind = "tenant_activated" if status == "active" else "tenant_suspended"
                write_event(connection, tenant_id, kind, self._author, tenant_id, {})
        with self._database.transaction() as connection:  # after the commit: a user added meanwhile is among them
            users = directory.user_ids(connection, tenant_id)
        self._drop([keys.auth(user_id) for user_id in users], f"the tenant is {status}")
        return changed

    def _record(
        self,
        connection: Connection,
        kind: str,
        issuer: str,
        subject: str,
        tenant_id: UUID | None,
        user_id: UUID | None,
    ) -> None:
        """Into the log that belongs to no tenant, and into the tenant's where there is one."""
        actor, correlation_id = self._author
        record_auth_event(connection, kind, actor=actor, correlation_id=correlation_id, issuer=issuer, subject=subject)
        if tenant_id is not None:
            write_event(connection, tenant_id, kind, self._author, user_id, {"issuer": issuer})

    def _drop(self, names: Sequence[str], decision: str) -> None:
        """Drop values that a decision made wrong. Raises StoreUnavailableError where Redis can't be told."""
        try:
            drop_or_raise(self._redis, names)
        except StoreUnavailableError as error:
            raise StoreUnavailableError(
                f"{decision} in Postgres, but Redis could not be told, and for up to an hour requests may be answered "
                "as before: do the same again once Redis answers."
            ) from error


def _check_linkable(found: directory.LockedIdentity, user: User) -> None:
    if found.tenant_id is not None and found.tenant_id != user.tenant_id:
        raise ConflictError(
            f"subject {found.subject!r} of {found.issuer!r} belongs to another tenant for ever: "
            f"it can't be linked to a user of {user.tenant_slug!r}."
        )
    if found.state == "linked" and found.user_id != user.user_id:
        raise ConflictError(
            f"subject {found.subject!r} of {found.issuer!r} is linked to user {found.user_id}: revoke it first."
        )


def _require(problem: Problem | None) -> None:
    if problem is not None:
        raise InvalidRequestError(f"{problem.reason}: {problem.remedy}.")
