"""Plain-SQL migrations: applied in order under an advisory lock, recorded with their hash, checked by every process."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from importlib.resources import files
from importlib.resources.abc import Traversable
from typing import LiteralString, NamedTuple

import psycopg
from psycopg.rows import class_row

from memory_pipeline.model.errors import SchemaVersionError, StoreUnavailableError
from memory_pipeline.stores.sqlfiles import sql

PACKAGE = "memory_pipeline.stores.postgres"
_ADVISORY_LOCK = 0x6D656D6F7279  # "memory" in ASCII
_FILE_NAME = re.compile(r"(?P<version>\d{4})_(?P<name>[a-z0-9_]+)\.sql")


class Migration(NamedTuple):
    """One migration file, or one row of migration_history (whose text is not kept)."""

    version: int
    name: str
    sha256: str

    def __str__(self) -> str:
        return f"{self.version:04d}_{self.name} ({self.sha256[:12]})"


def shipped_migrations(folder: Traversable | None = None) -> dict[Migration, LiteralString]:
    """Return the migrations of `folder` (this package's where None) with their text, in order.

    Raises SchemaVersionError where two files have the same number.
    """
    found: dict[Migration, LiteralString] = {}
    versions: set[int] = set()
    for file in sorted((folder or files("memory_pipeline.migrations")).iterdir(), key=lambda entry: entry.name):
        match = _FILE_NAME.fullmatch(file.name)
        if match:
            if int(match["version"]) in versions:
                raise SchemaVersionError(f"two migrations have the number of {file.name}: give the later one the next.")
            versions.add(int(match["version"]))
            text = file.read_text(encoding="utf-8")
            digest = hashlib.sha256(text.encode()).hexdigest()
            found[Migration(int(match["version"]), match["name"], digest)] = text
    return found


def migrate(admin_url: str, migrations: Mapping[Migration, LiteralString] | None = None) -> list[str]:
    """Bring the database to the schema of `migrations` (the shipped ones where None); return the names applied now.

    Two migrators at once are safe: one waits on the advisory lock and then finds nothing to do. Each migration is one
    transaction with its history row, so a failure leaves the schema at the last whole migration. Raises
    SchemaVersionError where the history does not fit what this process ships, or a migration fails.
    """
    shipped = shipped_migrations() if migrations is None else migrations
    with _connect(admin_url) as connection:
        connection.execute("SELECT pg_advisory_lock(%s)", [_ADVISORY_LOCK])
        try:
            with connection.transaction():
                connection.execute(sql(PACKAGE, "bootstrap"))
        except (psycopg.errors.InsufficientPrivilege, psycopg.errors.FeatureNotSupported) as error:
            raise SchemaVersionError(
                f"the database could not be prepared: {error}. Point MEMORY_POSTGRES_ADMIN_URL at a server with "
                "pgvector, as a role that may create roles, extensions and schemas."
            ) from error
        applied = _recorded(connection)
        _refuse_unknown_history(list(shipped), applied)
        pending = list(shipped)[len(applied) :]
        for migration in pending:
            _apply(connection, migration, shipped[migration])
        connection.execute("SELECT pg_advisory_unlock(%s)", [_ADVISORY_LOCK])
        return [f"{migration.version:04d}_{migration.name}" for migration in pending]


def _connect(admin_url: str) -> psycopg.Connection[tuple[object, ...]]:
    try:
        return psycopg.connect(admin_url, autocommit=True, connect_timeout=10)
    except psycopg.OperationalError as error:
        raise StoreUnavailableError(f"Postgres can't be reached for migrating: {error}") from error


def check_schema_at(admin_url: str) -> None:
    """Compare only, as `check_schema` does. Raises StoreUnavailableError too."""
    with _connect(admin_url) as connection:
        check_schema(connection)


def check_schema(
    connection: psycopg.Connection[tuple[object, ...]], migrations: Mapping[Migration, LiteralString] | None = None
) -> None:
    """Raise SchemaVersionError unless the database has exactly `migrations` (the shipped ones where None)."""
    shipped = list(shipped_migrations() if migrations is None else migrations)
    try:
        applied = _recorded(connection)
    except psycopg.errors.InsufficientPrivilege as error:
        raise SchemaVersionError(
            f"role {connection.info.user} may not read the memory schema; connect as memory_app or memory_pipeline."
        ) from error
    except (psycopg.errors.UndefinedTable, psycopg.errors.InvalidSchemaName) as error:
        raise SchemaVersionError(
            f"the database has no memory schema; expected {shipped[-1]}. Run `memory-pipeline migrate`."
        ) from error
    _refuse_unknown_history(shipped, applied)
    if len(applied) < len(shipped):
        found = applied[-1] if applied else "an empty history"
        raise SchemaVersionError(
            f"the schema is older than this program: expected {shipped[-1]}, found {found}. "
            "Run `memory-pipeline migrate`."
        )


def _apply(connection: psycopg.Connection[tuple[object, ...]], migration: Migration, statements: LiteralString) -> None:
    try:
        with connection.transaction():
            connection.execute("SET LOCAL ROLE memory_owner")
            connection.execute("SET LOCAL search_path = memory, public")
            connection.execute(statements)
            connection.execute(
                "INSERT INTO memory.migration_history (version, name, sha256) VALUES (%s, %s, %s)", migration
            )
    except psycopg.Error as error:
        raise SchemaVersionError(
            f"migration {migration} failed and was rolled back; the schema stays as the one before it left it: {error}"
        ) from error


def _recorded(connection: psycopg.Connection[tuple[object, ...]]) -> list[Migration]:
    with connection.cursor(row_factory=class_row(Migration)) as cursor:
        return cursor.execute("SELECT version, name, sha256 FROM memory.migration_history ORDER BY version").fetchall()


def _refuse_unknown_history(shipped: list[Migration], applied: list[Migration]) -> None:
    if len(applied) > len(shipped):
        raise SchemaVersionError(
            f"the schema is newer than this program: expected {shipped[-1]}, found {applied[-1]}. "
            "Upgrade memory_pipeline; the schema is never taken back."
        )
    for expected, found in zip(shipped, applied, strict=False):
        if expected.version != found.version:
            raise SchemaVersionError(
                f"the schema has other migrations than this program: expected {expected}, found {found}. "
                "Run the program that made the schema, or number the new migration after the applied ones."
            )
        if expected != found:
            raise SchemaVersionError(
                f"migration {found.version:04d} was edited after it was applied: expected {expected}, found {found}. "
                "Put the file back as it was and write a new migration."
            )
