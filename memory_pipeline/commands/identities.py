"""`identity`, `users`, `tenants`: who may use the stack, and as whom."""

from __future__ import annotations

import shlex
from datetime import UTC, datetime, timedelta
from typing import Literal

from memory_pipeline.commands.desk import Desk, open_desk
from memory_pipeline.commands.output import out, print_json, shown, table
from memory_pipeline.local.issuer import (
    DEVELOPMENT_ISSUER,
    ensure_development_issuer,
    has_development_issuer,
    sign_token,
    subject_of,
)
from memory_pipeline.model.errors import ConflictError, NotFoundError, SettingsError
from memory_pipeline.serving.administration import Administration
from memory_pipeline.serving.issuers import load_issuers
from memory_pipeline.settings import Settings, load_settings
from memory_pipeline.stores.postgres import directory
from memory_pipeline.stores.postgres.database import Database
from memory_pipeline.stores.postgres.tenants import User, find_user, tenant_id_of

_LISTED = 1000
_HINTED = 20
"""Pending logins whose command for linking is written out."""


def _user(database: Database, email: str, tenant: str | None) -> User:
    with database.transaction() as connection:
        return find_user(connection, email, tenant)


def _administration(desk: Desk) -> Administration:
    return Administration(desk.database, desk.redis, desk.author)


# -- identity --


def identity_list_command(
    state: Literal["pending", "linked", "revoked"] | None, tenant: str | None, email: str | None, *, json: bool
) -> int:
    """List identities, the newest first."""
    with open_desk() as desk, desk.database.transaction() as connection:
        rows = directory.list_identities(connection, state=state, tenant=tenant, email=email, limit=_LISTED)
    if json:
        print_json([row._asdict() for row in rows])
        return 0
    grid = table("Identities", "subject", "issuer", "state", "user", "tenant", "e-mail hint", "first seen")
    for row in rows:
        first_seen = f"{row.first_seen_at:%Y-%m-%d %H:%M}"
        cells = (row.subject, row.issuer, row.state, row.email, row.tenant, row.email_hint, first_seen)
        grid.add_row(*map(shown, cells))
    for column in grid.columns[:2]:
        column.overflow = "fold"  # whole, however narrow the terminal is
    out.print(grid)
    if state == "pending":
        _show_how_to_link(rows)
    if len(rows) == _LISTED:
        out.print(f"the newest {_LISTED:,}; there may be more.")
    return 0


def _show_how_to_link(rows: list[directory.IdentityRow]) -> None:
    for row in rows[:_HINTED]:
        if row.subject.isprintable() and row.issuer.isprintable():
            email = row.email_hint if row.email_hint is not None and row.email_hint.isprintable() else "EMAIL"
            line = ["memory-pipeline", "identity", "link", row.subject, "--issuer", row.issuer, "--user", email]
            out.print(shlex.join(line), markup=False, highlight=False, soft_wrap=True)


def identity_link_command(
    subject: str, issuer: str | None, email: str, tenant: str | None, *, unseen: bool, json: bool
) -> int:
    """Link a subject to a user."""
    if unseen and issuer is None:
        raise NotFoundError("a subject that never came needs its --issuer named.")
    with open_desk() as desk:
        user = _user(desk.database, email, tenant)
        issuer = issuer or _only_issuer_of(desk.database, subject)
        changed = _administration(desk).link_identity(issuer, subject, user, unseen=unseen)
    if json:
        print_json({"issuer": issuer, "subject": subject, "user_id": user.user_id, "changed": changed})
    else:
        what = "is" if changed else "was already"
        out.print(f"{subject} {what} linked to {user.email} of {user.tenant_slug}", highlight=False, markup=False)
    return 0


def identity_revoke_command(subject: str, issuer: str | None, *, json: bool) -> int:
    """Refuse a subject from now on and end its sessions."""
    with open_desk() as desk:
        issuer = issuer or _only_issuer_of(desk.database, subject)
        ended = _administration(desk).revoke_identity(issuer, subject)
    if json:
        print_json({"issuer": issuer, "subject": subject, "sessions_ended": ended})
    else:
        out.print(f"{subject} is revoked, {ended:,} sessions ended", highlight=False, markup=False)
    return 0


def _only_issuer_of(database: Database, subject: str) -> str:
    with database.transaction() as connection:
        issuers = directory.issuers_of(connection, subject)
    if not issuers:
        raise NotFoundError(f"there is no subject {subject!r}: see `memory-pipeline identity list`.")
    if len(issuers) > 1:
        raise NotFoundError(f"{subject!r} is a subject of several issuers ({', '.join(issuers)}): name one, --issuer.")
    return issuers[0]


# -- users --


def users_list_command(tenant: str | None, *, json: bool) -> int:
    """List users with their roles."""
    with open_desk() as desk, desk.database.transaction() as connection:
        rows = directory.list_users(connection, tenant)
    if json:
        print_json([row._asdict() for row in rows])
        return 0
    grid = table("Users", "e-mail", "tenant", "name", "status", "roles", "identities")
    for row in rows:
        cells = (row.email, row.tenant, row.display_name, row.status, ", ".join(row.roles), str(row.identities))
        grid.add_row(*map(shown, cells))
    out.print(grid)
    return 0


def users_add_command(email: str, tenant: str, name: str | None, *, json: bool) -> int:
    """Add a user to a tenant."""
    with open_desk() as desk:
        with desk.database.transaction() as connection:
            tenant_id = tenant_id_of(connection, tenant)
        added = _administration(desk).add_user(tenant_id, email, name)
        user = _user(desk.database, email, tenant)
    if json:
        print_json({"user_id": user.user_id, "tenant": tenant, "email": user.email, "added": added is not None})
    else:
        out.print(f"{user.email} {'is' if added else 'was already'} a user of {tenant}", highlight=False, markup=False)
    return 0


def users_status_command(email: str, tenant: str | None, status: Literal["active", "disabled"], *, json: bool) -> int:
    """Let a user in, or refuse them."""
    with open_desk() as desk:
        user = _user(desk.database, email, tenant)
        changed = _administration(desk).set_user_status(user, status)
    if json:
        print_json({"user_id": user.user_id, "tenant": user.tenant_slug, "status": status, "changed": changed})
    else:
        out.print(f"{user.email} of {user.tenant_slug} {'is' if changed else 'was already'} {status}", highlight=False)
    return 0


def users_token_command(email: str, tenant: str | None, lifetime_seconds: int, *, create: bool, json: bool) -> int:
    """Print a token of the development issuer for a user, and link its identity to them."""
    embedded = load_settings().postgres_app_url is None
    with open_desk(make_home=create) as desk:
        home = desk.settings.home
        if embedded and desk.settings.issuers_file is None:
            ensure_development_issuer(home)
        _check_development_issuer(desk.settings)
        user = _user_or_new(desk, email, tenant) if create else _user(desk.database, email, tenant)
        _link_development_identity(desk, user)
        token = sign_token(home, user.user_id, email=user.email, lifetime_seconds=lifetime_seconds)
    if json:
        expires_at = datetime.now(UTC) + timedelta(seconds=lifetime_seconds)
        print_json({"token": token, "user_id": user.user_id, "tenant": user.tenant_slug, "expires_at": expires_at})
    else:
        print(token)  # alone on standard output, for $(…)
    return 0


def _check_development_issuer(settings: Settings) -> None:
    """Say what is missing before anything is written."""
    if not has_development_issuer(settings.home):
        raise SettingsError(
            f"{settings.home} has no development issuer: `memory-pipeline up` on this home makes one. "
            "Where a provider of your own signs the tokens, take one of those."
        )
    if DEVELOPMENT_ISSUER not in {issuer.issuer for issuer in load_issuers(settings)}:
        raise SettingsError(
            f"the issuers file of this stack does not trust {DEVELOPMENT_ISSUER}, so its tokens would be refused: "
            "take a token of an issuer that it names."
        )


def _user_or_new(desk: Desk, email: str, tenant: str | None) -> User:
    with desk.database.transaction() as connection:
        known = directory.tenants_of(connection, email)
    if tenant in known or (tenant is None and known):
        return _user(desk.database, email, tenant)
    slug = tenant or "default"
    tenant_id, _ = _administration(desk).add_tenant(slug, None)
    _administration(desk).add_user(tenant_id, email, None)
    return _user(desk.database, email, slug)


def _link_development_identity(desk: Desk, user: User) -> None:
    subject = subject_of(user.user_id)
    with desk.database.transaction() as connection:
        found = directory.lock_identity(connection, DEVELOPMENT_ISSUER, subject)
    if found is not None and found.state == "revoked":
        raise ConflictError(
            f"the development login of {user.email} was revoked: `memory-pipeline identity link {subject} "
            f"--user {user.email} --tenant {user.tenant_slug}` takes that back."
        )
    _administration(desk).link_identity(DEVELOPMENT_ISSUER, subject, user, unseen=True)


# -- tenants --


def tenants_list_command(*, json: bool) -> int:
    """List tenants."""
    with open_desk() as desk, desk.database.transaction() as connection:
        rows = directory.list_tenants(connection)
    if json:
        print_json([row._asdict() for row in rows])
        return 0
    grid = table("Tenants", "slug", "name", "status", "users", "since")
    for row in rows:
        cells = (row.slug, row.name, row.status, f"{row.users:,}", f"{row.created_at:%Y-%m-%d}")
        grid.add_row(*map(shown, cells))
    out.print(grid)
    return 0


def tenants_add_command(slug: str, name: str | None, *, json: bool) -> int:
    """Add a tenant."""
    with open_desk(make_home=True) as desk:
        tenant_id, added = _administration(desk).add_tenant(slug, name)
    if json:
        print_json({"tenant_id": tenant_id, "slug": slug, "added": added})
    else:
        out.print(f"{slug} {'is' if added else 'was already'} a tenant", highlight=False)
    return 0


def tenants_status_command(slug: str, status: Literal["active", "suspended"], *, json: bool) -> int:
    """Let the users of a tenant in, or refuse them all."""
    with open_desk() as desk:
        changed = _administration(desk).set_tenant_status(slug, status)
    if json:
        print_json({"slug": slug, "status": status, "changed": changed})
    else:
        out.print(f"{slug} {'is' if changed else 'was already'} {status}", highlight=False)
    return 0
