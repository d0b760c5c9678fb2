"""For whom the stages may run a plugin, and the record of tenants they had to leave out."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from uuid import UUID, uuid4

from memory_pipeline.model.window import NamedMemories, Selection
from memory_pipeline.stores.postgres.database import Connection, Database
from memory_pipeline.stores.postgres.migrate import PACKAGE
from memory_pipeline.stores.sqlfiles import sql


def permitted_tenants(connection: Connection, plugin: str) -> list[UUID]:
    """Return the tenants for whom the stages may run `plugin`."""
    rows = connection.execute(
        "SELECT tenant_id FROM permitted_plugins WHERE plugin = %s AND role = 'pipeline'", [plugin]
    ).fetchall()
    return [tenant_id for (tenant_id,) in rows]


def install_plugin(connection: Connection, tenant_id: UUID, plugin: str, installed_by: str) -> None:
    """Have a registered plugin run for a tenant, where it does not yet."""
    connection.execute(
        "INSERT INTO plugin_installs (tenant_id, plugin, installed_by) VALUES (%s, %s, %s) ON CONFLICT DO NOTHING",
        [tenant_id, plugin, installed_by],
    )


def refuse_tenants(
    database: Database,
    stage: str,
    plugin: str,
    selection: Selection,
    find: Callable[[Connection, list[UUID]], Iterable[UUID]],
) -> list[UUID]:
    """Return the tenants that have work for `plugin` and do not permit it; each gets one event `plugin_refused`.

    `find` tells which of some tenants have such work in the selection. It is not asked where everybody permits it.
    """
    named = (
        sorted({memory.tenant_id for memory in selection.memories}) if isinstance(selection, NamedMemories) else None
    )
    with database.transaction() as connection:
        rows = connection.execute(sql(PACKAGE, "barred_tenants"), {"plugin": plugin, "tenant_ids": named}).fetchall()
        barred = [tenant_id for (tenant_id,) in rows]
        refused = sorted(set(find(connection, barred))) if barred else []
        if refused:
            connection.execute(
                "INSERT INTO events (tenant_id, kind, actor, correlation_id, detail)"
                " SELECT tenant_id, 'plugin_refused', %s, %s, jsonb_build_object('plugin', %s::text)"
                " FROM unnest(%s::uuid[]) AS refused (tenant_id)",
                [f"stage:{stage}", uuid4(), plugin, refused],
            )
    return refused
