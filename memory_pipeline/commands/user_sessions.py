"""`identity sessions`, `identity end-session`: the tokens of a user that were accepted, and the end of one of them."""

from __future__ import annotations

import re

from memory_pipeline.commands.desk import open_desk
from memory_pipeline.commands.output import out, print_json, shown, table
from memory_pipeline.model.errors import InvalidRequestError
from memory_pipeline.serving.administration import Administration
from memory_pipeline.stores.postgres import directory
from memory_pipeline.stores.postgres.tenants import find_user

_LISTED = 1_000
_HASH = re.compile(r"[0-9a-fA-F]{64}")


def list_command(email: str, tenant: str | None, *, json: bool) -> int:
    """Show the sessions of a user."""
    with open_desk() as desk, desk.database.transaction() as connection:
        user = find_user(connection, email, tenant)
        rows = directory.list_sessions(connection, user.tenant_id, user.user_id, limit=_LISTED)
    if json:
        print_json([row._asdict() | {"session_hash": row.session_hash.hex()} for row in rows])
        return 0
    grid = table(f"Sessions of {user.email} in {user.tenant_slug}", "session", "login", "last used", "ends", "state")
    for row in rows:
        state = "ended" if row.revoked_at is not None else "open"
        used, ends = (f"{moment:%Y-%m-%d %H:%M} UTC" for moment in (row.last_seen_at, row.expires_at))
        grid.add_row(row.session_hash.hex(), shown(row.subject), used, ends, state)
    grid.columns[0].overflow = "fold"  # whole, however narrow the terminal is: it is what `end-session` asks for
    out.print(grid)
    if len(rows) == _LISTED:
        out.print(f"the last {_LISTED:,} used; there may be more.")
    return 0


def end_command(session: str, *, json: bool) -> int:
    """End one session."""
    session_hash = _hash(session)
    with open_desk() as desk:
        ended = Administration(desk.database, desk.redis, desk.author).revoke_session(session_hash)
    if json:
        print_json({"session_hash": session_hash.hex(), "ended": ended})
    else:
        out.print(f"the session {'is' if ended else 'was already'} ended", highlight=False)
    return 0


def _hash(session: str) -> bytes:
    if not _HASH.fullmatch(session):
        raise InvalidRequestError(
            "a session is 64 hexadecimal digits, as `memory-pipeline identity sessions --user EMAIL` shows them."
        )
    return bytes.fromhex(session)
