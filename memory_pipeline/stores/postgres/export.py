"""Bulk reads for the lake: Arrow record batches streamed by ADBC out of one consistent snapshot of Postgres."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING, Any

import psycopg

from memory_pipeline.model.errors import StoreUnavailableError
from memory_pipeline.model.window import DayWindow
from memory_pipeline.stores.postgres.migrate import PACKAGE, check_schema
from memory_pipeline.stores.sqlfiles import sql

if TYPE_CHECKING:
    import pyarrow as pa

_SESSION = (
    # Must come before anything that takes a snapshot.
    "SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY",
    "SET LOCAL search_path = memory, public",
    "SET LOCAL timezone = 'UTC'",
    # One long scan: compiling it never pays, and sorting within days should stay off the disk.
    "SET LOCAL jit = off",
    "SET LOCAL work_mem = '64MB'",
)


class Snapshot:
    """Postgres as it was at one moment. Reads one table at a time."""

    def __init__(self, connection: Any) -> None:
        self._connection = connection

    @contextmanager
    def read(self, table: str, window: DayWindow | None = None) -> Iterator[pa.RecordBatchReader]:
        """Stream `sql/export_<table>.sql`, over the days of `window` where the statement speaks of export.* settings.

        At most a few batches (16 MiB each) are in memory at a time. Statements with bound parameters would be answered
        in one piece by this driver, so the window travels as settings of the transaction.
        """
        with closing(self._connection.cursor()) as cursor:
            if window is not None:
                self._configure(cursor, window)
            cursor.execute(sql(PACKAGE, f"export_{table}"))
            yield cursor.fetch_record_batch()

    @staticmethod
    def _configure(cursor: Any, window: DayWindow) -> None:
        settings = {
            "export.start_time": window.start_time.isoformat(),
            "export.end_time": window.end_time.isoformat(),
            "export.start_day": window.start.isoformat(),
            "export.end_day": window.end.isoformat(),
        }
        for name, value in settings.items():
            cursor.execute("SELECT set_config($1, $2, true)", parameters=(name, value))
            cursor.fetchall()


@contextmanager
def snapshot(pipeline_url: str) -> Iterator[Snapshot]:
    """Open one REPEATABLE READ, READ ONLY transaction as memory_pipeline: everything read in it is of one moment.

    Raises StoreUnavailableError where Postgres is away or goes away, SchemaVersionError for a foreign schema.
    """
    from adbc_driver_manager import Error as AdbcError
    from adbc_driver_postgresql import dbapi

    try:
        with psycopg.connect(pipeline_url, connect_timeout=10) as connection:
            check_schema(connection)
        with closing(dbapi.connect(pipeline_url)) as adbc:
            with closing(adbc.cursor()) as cursor:
                for statement in _SESSION:
                    cursor.execute(statement)
            yield Snapshot(adbc)
            adbc.rollback()
    except (psycopg.OperationalError, AdbcError) as error:
        raise StoreUnavailableError(
            f"Postgres can't be read for the export: {error}. What was exported before is untouched; "
            "start Postgres or mend MEMORY_POSTGRES_PIPELINE_URL, and export again."
        ) from error
