"""`flags list`, `flags set`, `flags unset`: what is switched on. Every change is an event."""

from __future__ import annotations

from datetime import datetime

import msgspec

from memory_pipeline.commands.desk import open_desk
from memory_pipeline.commands.output import number, out, print_json, table
from memory_pipeline.commands.session import running_pipeline
from memory_pipeline.model.errors import InvalidRequestError, NotFoundError
from memory_pipeline.model.flags import FIXED_FLAGS, Flag, flag_named
from memory_pipeline.stages.flags import READ_SECONDS
from memory_pipeline.stores.postgres.feature_flags import (
    bring_waiting_forward,
    read_overrides,
    set_override,
    unset_override,
)

_SETTLED_SECONDS = 2 * READ_SECONDS
"""After it every process that reaches Postgres has read a change; a job must not come back before."""


class FlagRow(msgspec.Struct, frozen=True):
    """A flag as `flags list` shows it."""

    flag: str
    setting: str
    default: bool
    """Of this command's own environment; that of a server may be another."""
    enabled: bool
    restart: bool
    """Whether it can be changed only by its setting and a restart."""
    changed_by: str | None = None
    changed_at: datetime | None = None


def list_command(*, json: bool) -> int:
    """Show every flag."""
    with running_pipeline() as pipeline, pipeline.database.transaction() as connection:
        overrides = {row.flag: row for row in read_overrides(connection)}
        settings = pipeline.settings
    rows = []
    for flag in Flag:
        default = bool(getattr(settings, flag.field))
        override = overrides.get(flag)
        if override is None:
            rows.append(FlagRow(flag, flag.setting, default, default, restart=False))
        else:
            rows.append(
                FlagRow(flag, flag.setting, default, override.enabled, False, override.changed_by, override.changed_at)
            )
    for name, fixed in FIXED_FLAGS.items():
        value = bool(getattr(settings, fixed.field))
        rows.append(FlagRow(name, fixed.setting, value, value, restart=True))
    if json:
        print_json(rows)
        return 0
    grid = table("Flags", "flag", "is", "set by", "at", "setting", "here")
    for row in rows:
        at = "" if row.changed_at is None else f"{row.changed_at:%Y-%m-%d %H:%M} UTC"
        by = "a restart only" if row.restart else row.changed_by or "nobody"
        grid.add_row(row.flag, _on(row.enabled), by, at, row.setting, _on(row.default))
    out.print(grid)
    return 0


def set_command(name: str, *, enabled: bool) -> int:
    """Switch a flag in every process."""
    flag = _flag(name)
    with open_desk(make_home=True) as desk, desk.database.transaction() as connection:
        changed = set_override(connection, flag, desk.author, enabled=enabled)
        forward = bring_waiting_forward(connection, flag.waiting_jobs, _SETTLED_SECONDS) if enabled else 0
    return _say(f"{flag} is {_on(enabled)} in every process", forward, changed=changed)


def unset_command(name: str) -> int:
    """Have the settings hold again."""
    flag = _flag(name)
    with open_desk() as desk, desk.database.transaction() as connection:
        changed = unset_override(connection, flag, desk.author)
        # Whether the settings of the others say on is not known here; jobs that come too early are put aside again.
        forward = bring_waiting_forward(connection, flag.waiting_jobs, _SETTLED_SECONDS) if changed else 0
    return _say(f"{flag} is what {flag.setting} says in each process", forward, changed=changed)


def _flag(name: str) -> Flag:
    if name in FIXED_FLAGS:
        fixed = FIXED_FLAGS[name]
        raise InvalidRequestError(
            f"{name} can't be changed while processes run: {fixed.reason} Change {fixed.setting} and restart them."
        )
    flag = flag_named(name)
    if flag is None:
        raise NotFoundError(f"there is no flag {name!r}; there are {', '.join(Flag)}.")
    return flag


def _say(state: str, forward: int, *, changed: bool) -> int:
    made = f"within {READ_SECONDS:g} s" if changed else "as before"
    jobs = f"; {number(forward)} waiting jobs go on" if forward else ""
    out.print(f"{state} ({made}){jobs}", highlight=False, soft_wrap=True)
    return 0


def _on(value: bool) -> str:
    return "on" if value else "off"
