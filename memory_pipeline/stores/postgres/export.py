"""Bulk reads for the lake: Arrow record batches streamed by ADBC, every connection in one exported snapshot."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from datetime import date
from itertools import chain
from typing import TYPE_CHECKING, Any

import psycopg
from psycopg.rows import dict_row
from psycopg.sql import SQL, Literal

from memory_pipeline.model.errors import StoreUnavailableError
from memory_pipeline.model.snapshot import Fingerprint, Source
from memory_pipeline.model.window import DayWindow
from memory_pipeline.stores.postgres.migrate import PACKAGE, check_schema
from memory_pipeline.stores.sqlfiles import sql

if TYPE_CHECKING:
    import pyarrow as pa

_ISOLATION = "SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY"
_SESSION = (
    "SET LOCAL search_path = memory, public",
    "SET LOCAL timezone = 'UTC'",
    # One long scan: compiling it never pays, and sorting within days should stay off the disk.
    "SET LOCAL jit = off",
    "SET LOCAL work_mem = '64MB'",
)
# Side by side: each is one scan, which a core does alone.
_FINGERPRINTS = (("fingerprint_memories",), ("fingerprint_messages", "fingerprint_others"))


class Snapshot:
    """Postgres as it was at one moment, for any number of readers at once."""

    def __init__(self, pipeline_url: str, coordinator: psycopg.Connection[Any], source: Source, shared: str) -> None:
        self._url = pipeline_url
        self._shared = SQL("SET TRANSACTION SNAPSHOT {}").format(Literal(shared)).as_string(coordinator)
        self.source = source

    def fingerprints(self) -> dict[str, dict[date | None, Fingerprint]]:
        """Return by table and day (None: a dimension) which rows there are. Reads every row's header, no content."""
        found: dict[str, dict[date | None, Fingerprint]] = {}
        with ThreadPoolExecutor(len(_FINGERPRINTS), thread_name_prefix="lake-fingerprints") as scanners:
            for table, day, rows, digest in chain.from_iterable(scanners.map(self._scan, _FINGERPRINTS)):
                if rows:
                    found.setdefault(table, {})[day] = Fingerprint(rows, f"{rows}:{digest}")
        return found

    @contextmanager
    def connect(self) -> Iterator[psycopg.Connection[tuple[Any, ...]]]:
        """Open one more connection that sees this moment and can write nothing."""
        with psycopg.connect(self._url, connect_timeout=10) as connection:
            for statement in (_ISOLATION, self._shared, *_SESSION):
                connection.execute(statement.encode())
            yield connection
            connection.rollback()

    def _scan(self, statements: Sequence[str]) -> list[tuple[Any, ...]]:
        with self.connect() as connection:
            return [row for statement in statements for row in connection.execute(sql(PACKAGE, statement))]

    @contextmanager
    def read(self, table: str, window: DayWindow | None = None) -> Iterator[pa.RecordBatchReader]:
        """Stream `sql/export_<table>.sql`, over the days of `window` where the statement speaks of export.* settings.

        On a connection of its own, so that tables can be read side by side. At most a few batches (16 MiB each) are in
        memory at a time. Statements with bound parameters would be answered in one piece by this driver, so the window
        travels as settings of the transaction.
        """
        from adbc_driver_postgresql import dbapi

        with closing(dbapi.connect(self._url)) as connection, closing(connection.cursor()) as cursor:
            for statement in (_ISOLATION, self._shared, *_SESSION):
                cursor.execute(statement)
            if window is not None:
                self._configure(cursor, window)
            cursor.execute(sql(PACKAGE, f"export_{table}"))
            yield cursor.fetch_record_batch()
            connection.rollback()

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
    """Open one REPEATABLE READ, READ ONLY transaction as memory_pipeline, and export its snapshot to its readers.

    Raises StoreUnavailableError where Postgres is away or goes away, SchemaVersionError for a foreign schema.
    """
    from adbc_driver_manager import Error as AdbcError

    try:
        with psycopg.connect(pipeline_url, connect_timeout=10) as connection:
            check_schema(connection)
            connection.rollback()
            for statement in (_ISOLATION, *_SESSION):
                connection.execute(statement.encode())
            with connection.cursor(row_factory=dict_row) as cursor:
                row = cursor.execute(sql(PACKAGE, "snapshot_source")).fetchone()
            assert row is not None  # `installation` has its row from the migration on
            shared = row.pop("shared")
            yield Snapshot(pipeline_url, connection, Source(**row), shared)
            connection.rollback()
    except (psycopg.OperationalError, AdbcError) as error:
        raise StoreUnavailableError(
            f"Postgres can't be read for the export: {error}. What was exported before is untouched; "
            "start Postgres or mend MEMORY_POSTGRES_PIPELINE_URL, and export again."
        ) from error


def export_statement(table: str) -> str:
    """Return the statement a table is read with."""
    return sql(PACKAGE, f"export_{table}")
