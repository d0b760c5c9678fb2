"""What administrators decide about tenants, users, identities and sessions: written to Postgres with its events in one
transaction, and told to Redis at once.

Where Redis can't be told, Postgres holds the decision already and StoreUnavailableError says what that means; doing it
again tells Redis again. `database` is of memory_pipeline everywhere.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice
from typing import Literal
from uuid import UUID, uuid4

from tenacity import Retrying, retry_if_result, stop_after_attempt, wait_fixed

from memory_pipeline.model.errors import ConflictError, InvalidRequestError, NotFoundError, StoreUnavailableError
from memory_pipeline.model.validation import Problem, check_email, check_id, check_name
from memory_pipeline.stores.postgres import directory
from memory_pipeline.stores.postgres.database import Connection, Database
from memory_pipeline.stores.postgres.identities import record_auth_event
from memory_pipeline.stores.postgres.tenants import User, check_slug, tenant_id_of
from memory_pipeline.stores.redis import keys
from memory_pipeline.stores.redis.manager import RedisManager

_KEYS_AT_ONCE = 500
_TRIES = 4
_WAIT_SECONDS = 0.5
"""Together longer than the manager leaves Redis alone after a failure, so that one lost packet is no error."""


def link_identity(
    database: Database, redis: RedisManager, issuer: str, subject: str, user: User, *, actor: str, unseen: bool = False
) -> bool:
    """Let a subject act as a user; return False where it does already. `unseen` takes subjects that never came.

    Raises NotFoundError, ConflictError where it is linked to another user or belongs to another tenant, and
    StoreUnavailableError where sessions it had before could not be dropped from Redis.
    """
    _require(check_id("issuer", issuer))
    _require(check_id("subject", subject))
    correlation_id = uuid4()
    with database.transaction() as connection:
        found = directory.lock_identity(connection, issuer, subject)
        if found is None and not unseen:
            raise NotFoundError(
                f"subject {subject!r} of {issuer!r} has never come: have them call the API once, or add --unseen."
            )
        if found is not None:
            _check_linkable(found, user)
        changed = found is None or found.state != "linked"
        if changed:
            directory.link_identity(connection, issuer, subject, user.tenant_id, user.user_id, actor=actor)
            _record_identity_event(
                connection, "identity_linked", issuer, subject, user.tenant_id, user.user_id, actor, correlation_id
            )
        earlier = directory.session_hashes(connection, issuer, subject) if changed else []
    # Sessions of a time when it was somebody else, should their revocation not have reached Redis.
    _drop(redis, [keys.session(hash_) for hash_ in earlier], "the identity is linked")
    return changed


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


def revoke_identity(database: Database, redis: RedisManager, issuer: str, subject: str, *, actor: str) -> int:
    """Refuse a subject from now on, and end its sessions; return how many that were. Doing it again is fine.

    Raises NotFoundError, and StoreUnavailableError where Redis could not be told.
    """
    with database.transaction() as connection:
        found = directory.lock_identity(connection, issuer, subject)
        if found is None:
            raise NotFoundError(f"there is no subject {subject!r} of {issuer!r}: see `memory-pipeline identity list`.")
        ended = directory.revoke_sessions(connection, issuer, subject)
        if found.state != "revoked":
            directory.revoke_identity(connection, issuer, subject, actor=actor)
            _record_identity_event(
                connection, "identity_revoked", issuer, subject, found.tenant_id, found.user_id, actor, uuid4()
            )
        hashes = directory.session_hashes(connection, issuer, subject)
    _drop(redis, [keys.session(hash_) for hash_ in hashes], "the identity is revoked")
    return ended


def revoke_session(database: Database, redis: RedisManager, session_hash: bytes, *, actor: str) -> bool:
    """End one session; return False where it had ended. Its token is refused from now on, others of the user are not.

    Raises NotFoundError, and StoreUnavailableError where Redis could not be told.
    """
    with database.transaction() as connection:
        owner = directory.lock_session(connection, session_hash)
        if owner is None:
            raise NotFoundError(f"there is no session {session_hash.hex()}.")
        if not owner.revoked:
            directory.revoke_session(connection, session_hash)
            _record_identity_event(
                connection,
                "session_revoked",
                owner.issuer,
                owner.subject,
                owner.tenant_id,
                owner.user_id,
                actor,
                uuid4(),
            )
    _drop(redis, [keys.session(session_hash)], "the session is ended")
    return not owner.revoked


def add_tenant(database: Database, slug: str, name: str | None, *, actor: str) -> tuple[UUID, bool]:
    """Return the tenant of this slug, and whether it is new. Raises InvalidRequestError, NotFoundError (bad slug)."""
    check_slug(slug)
    _require(check_name("name", name or slug))
    with database.transaction() as connection:
        tenant_id = directory.insert_tenant(connection, slug, name or slug)
        if tenant_id is None:
            return tenant_id_of(connection, slug), False
        directory.record_event(
            connection, tenant_id, "tenant_added", actor=actor, correlation_id=uuid4(), subject_id=tenant_id
        )
    return tenant_id, True


def add_user(database: Database, tenant_id: UUID, email: str, display_name: str | None, *, actor: str) -> UUID | None:
    """Add a user to a tenant and return the id; None where there is one. Raises InvalidRequestError."""
    _require(check_email(email))
    name = display_name or email.split("@")[0]
    _require(check_name("name", name))
    with database.tenant_transaction(tenant_id) as connection:
        user_id = directory.insert_user(connection, tenant_id, email, name)
        if user_id is not None:
            directory.record_event(
                connection, tenant_id, "user_added", actor=actor, correlation_id=uuid4(), subject_id=user_id
            )
    return user_id


def set_user_status(
    database: Database, redis: RedisManager, user: User, status: Literal["active", "disabled"], *, actor: str
) -> bool:
    """Let a user in, or refuse them from now on; return whether that is a change.

    Raises StoreUnavailableError where Redis could not be told.
    """
    with database.transaction() as connection:
        changed = directory.set_user_status(connection, user.tenant_id, user.user_id, status)
        if changed:
            kind = "user_enabled" if status == "active" else "user_disabled"
            directory.record_event(
                connection, user.tenant_id, kind, actor=actor, correlation_id=uuid4(), subject_id=user.user_id
            )
    _drop(redis, [keys.auth(user.user_id)], f"the user is {status}")
    return changed


def set_tenant_status(
    database: Database, redis: RedisManager, slug: str, status: Literal["active", "suspended"], *, actor: str
) -> bool:
    """Let the users of a tenant in, or refuse them all from now on; return whether that is a change.

    Raises NotFoundError, and StoreUnavailableError where Redis could not be told.
    """
    with database.transaction() as connection:
        tenant_id = tenant_id_of(connection, slug)
        changed = directory.set_tenant_status(connection, tenant_id, status)
        if changed:
            kind = "tenant_activated" if status == "active" else "tenant_suspended"
            directory.record_event(
                connection, tenant_id, kind, actor=actor, correlation_id=uuid4(), subject_id=tenant_id
            )
    with database.transaction() as connection:  # after the commit: a user added meanwhile is among them
        users = directory.user_ids(connection, tenant_id)
    _drop(redis, [keys.auth(user_id) for user_id in users], f"the tenant is {status}")
    return changed


def _record_identity_event(
    connection: Connection,
    kind: str,
    issuer: str,
    subject: str,
    tenant_id: UUID | None,
    user_id: UUID | None,
    actor: str,
    correlation_id: UUID,
) -> None:
    """Into the log that belongs to no tenant, and into the tenant's where there is one."""
    record_auth_event(connection, kind, actor=actor, correlation_id=correlation_id, issuer=issuer, subject=subject)
    if tenant_id is not None:
        directory.record_event(
            connection,
            tenant_id,
            kind,
            actor=actor,
            correlation_id=correlation_id,
            subject_id=user_id,
            detail={"issuer": issuer},
        )


def _drop(redis: RedisManager, names: Sequence[str], decision: str) -> None:
    """Drop values that a decision made wrong. Raises StoreUnavailableError where Redis can't be told."""
    remaining = iter(names)
    while batch := list(islice(remaining, _KEYS_AT_ONCE)):
        tries = Retrying(
            retry=retry_if_result(lambda told: not told),
            stop=stop_after_attempt(_TRIES),
            wait=wait_fixed(_WAIT_SECONDS),
            retry_error_callback=lambda state: False,
        )
        if not tries(redis.drop_values, *batch):
            raise StoreUnavailableError(
                f"{decision} in Postgres, but Redis could not be told, and for up to an hour may go on as before: "
                "do the same again once Redis answers."
            )


def _require(problem: Problem | None) -> None:
    if problem is not None:
        raise InvalidRequestError(f"{problem.reason}: {problem.remedy}.")
