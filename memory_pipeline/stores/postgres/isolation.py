"""Whether tenants are kept apart on a connection: every reason to doubt it, found by asking the catalogue.

What the migrations made is the measure. Row-level security is a matter of many small things (owners, FORCE, policies,
memberships), each of which one statement of a hurried person can undo, and of nothing beside it that leads around.
"""

from __future__ import annotations

import re
from typing import Any

import psycopg

from memory_pipeline.stores.postgres.migrate import PACKAGE, shipped_migrations
from memory_pipeline.stores.sqlfiles import sql


def isolation_problems(connection: psycopg.Connection[tuple[Any, ...]], role: str | None) -> list[str]:
    """Return why this connection must not be trusted with tenants, a clause each; nothing means that it may be.

    `role` is what the process means to work as: memory_app, memory_pipeline, or None for either. search_path must be
    that of the pools: Postgres prints expressions by it.
    """
    found = [
        str(problem)
        for name in ("verify_isolation", "verify_ways_around")
        for (problem,) in connection.execute(sql(PACKAGE, name), {"role": role}).fetchall()
    ]
    return found + _function_problems(connection)


def _function_problems(connection: psycopg.Connection[tuple[Any, ...]]) -> list[str]:
    """What differs from the migrations' text among the functions that act as their owner, or guard rows as triggers."""
    texts = list(shipped_migrations().values())
    problems = []
    for name, acts_as_owner, source, as_declared in connection.execute(sql(PACKAGE, "functions")).fetchall():
        made = re.compile(rf"\bFUNCTION\s+(?:memory\.)?{re.escape(name)}\s*\(")
        # The last migration that makes a function says how it is now.
        last = next((text for text in reversed(texts) if made.search(text)), None)
        if acts_as_owner and (last is None or source is None or source not in last or not as_declared):
            problems.append(f"function {name} acts with the rights of its owner and is not as it was migrated")
        elif last is not None and source is not None and source not in last:
            problems.append(f"function {name} is not as it was migrated")
    return problems
