"""Dagster's Postgres event log, with two things mended.

Before a run over a range of days starts, Dagster logs one "planned" event per day and asset. dagster-postgres 0.29
writes materializations in batches but these one by one, each on a connection of its own: a minute before the steps of
a run over the months of one imported data set could begin.

And where two runs are the first ever to enter a pool at the same time, one of them fails: both insert the pool's row,
and the one that is refused goes on in its transaction, which Postgres does not allow.

Named in dagster.yaml; without it everything works, but slower, and not for those two runs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from dagster import DagsterEventType, EventLogEntry
from dagster._core.storage.event_log.schema import SqlEventLogStorageTable
from dagster._serdes import ConfigurableClassData
from dagster_postgres import PostgresEventLogStorage
from dagster_postgres.utils import pg_url_from_config
from psycopg2.errors import InFailedSqlTransaction
from sqlalchemy.exc import InternalError

_ROWS_PER_INSERT = 1_000


class BatchingEventLogStorage(PostgresEventLogStorage):
    """PostgresEventLogStorage that also batches planned materializations, and lets two runs make the same pool."""

    @classmethod
    def from_config_value(
        cls, inst_data: ConfigurableClassData | None, config_value: Mapping[str, Any]
    ) -> BatchingEventLogStorage:
        return cls(
            inst_data=inst_data,
            postgres_url=pg_url_from_config(config_value),
            should_autocreate_tables=config_value.get("should_autocreate_tables", True),
        )

    def store_event_batch(self, events: Sequence[EventLogEntry]) -> None:
        planned = [event for event in events if _is_planned(event)]
        if not planned:
            super().store_event_batch(events)
            return
        others = [event for event in events if not _is_planned(event)]
        if others:
            super().store_event_batch(others)
        for start in range(0, len(planned), _ROWS_PER_INSERT):
            self._store_planned(planned[start : start + _ROWS_PER_INSERT])

    def initialize_concurrency_limit_to_default(self, concurrency_key: str) -> bool:
        try:
            return super().initialize_concurrency_limit_to_default(concurrency_key)
        except InternalError as error:
            if not isinstance(error.orig, InFailedSqlTransaction):
                raise
            return True  # refused, because the other run has committed the pool and its slots

    def _store_planned(self, events: Sequence[EventLogEntry]) -> None:
        insert = self.prepare_insert_event_batch(events).returning(SqlEventLogStorageTable.c.id)
        with self._connect() as connection:
            ids = [int(row[0]) for row in connection.execute(insert).fetchall()]
        # An asset's row remembers its last event alone, so the last of each asset is enough.
        last = {event.get_dagster_event().asset_key: (event, id_) for event, id_ in zip(events, ids, strict=True)}
        with self.index_transaction() as connection:
            for event, id_ in last.values():
                self._store_asset_event(connection, event, id_)


def _is_planned(event: EventLogEntry) -> bool:
    return event.dagster_event_type == DagsterEventType.ASSET_MATERIALIZATION_PLANNED
