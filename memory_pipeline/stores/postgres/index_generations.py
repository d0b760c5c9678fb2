"""Statements about index generations: which Chroma collections a tenant has under a model, and which one is live."""

from __future__ import annotations

from typing import Literal, NamedTuple
from uuid import UUID

from psycopg.rows import class_row

from memory_pipeline.stores.postgres.database import Connection
from memory_pipeline.stores.postgres.migrate import PACKAGE
from memory_pipeline.stores.sqlfiles import sql

State = Literal["live", "building", "retired"]


class Generation(NamedTuple):
    """One Chroma collection of a tenant and model, as Postgres knows it."""

    tenant_id: UUID
    generation_id: UUID
    model: str
    dimension: int
    collection_name: str
    collection_uuid: UUID
    state: State


def live_generation(connection: Connection, tenant_id: UUID, model: str) -> Generation | None:
    """Return the collection that queries of this tenant and model should ask, if there is one."""
    found = generations(connection, tenant_id, model, "live")
    return found[0] if found else None


def generations(connection: Connection, tenant_id: UUID, model: str, state: State) -> list[Generation]:
    """Return a tenant's collections in one state, oldest first."""
    with connection.cursor(row_factory=class_row(Generation)) as cursor:
        return cursor.execute(
            sql(PACKAGE, "index_generations"), {"tenant_id": tenant_id, "model": model, "state": state}
        ).fetchall()


def insert_generation(connection: Connection, generation: Generation) -> None:
    connection.execute(
        "INSERT INTO index_generations"
        " (tenant_id, generation_id, model, dimension, collection_name, collection_uuid, state)"
        " VALUES (%s, %s, %s, %s, %s, %s, %s)",
        generation,
    )


def switch_live(connection: Connection, generation: Generation) -> None:
    """Make a building generation the live one and retire what was live, in the caller's transaction."""
    live = live_generation(connection, generation.tenant_id, generation.model)
    if live is not None:
        retire_generation(connection, live)
    _set_state(connection, generation, "live")


def retire_generation(connection: Connection, generation: Generation) -> None:
    """Keep the row of a generation as history and drop its entries; its collection is the caller's to delete."""
    _set_state(connection, generation, "retired")
    connection.execute(
        "DELETE FROM index_entries WHERE tenant_id = %s AND generation_id = %s",
        [generation.tenant_id, generation.generation_id],
    )


def _set_state(connection: Connection, generation: Generation, state: State) -> None:
    connection.execute(
        "UPDATE index_generations SET state = %s WHERE tenant_id = %s AND generation_id = %s",
        [state, generation.tenant_id, generation.generation_id],
    )
