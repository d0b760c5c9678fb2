"""What tells one database from another, so that processes that should share one can notice that they do not."""

from __future__ import annotations

import hashlib
from uuid import UUID

import msgspec

from memory_pipeline.stores.postgres.database import Connection
from memory_pipeline.stores.postgres.migrate import PACKAGE
from memory_pipeline.stores.sqlfiles import sql


class Fingerprint(msgspec.Struct, frozen=True, kw_only=True):
    """Which database a connection leads to. Host and port are for people: the same database has many addresses.

    A copy made inside the cluster has another name and oid, one made by dump and restore another cluster. A byte copy
    of a whole cluster can't be told from the original.
    """

    installation_id: UUID
    database: str
    database_oid: int
    system_identifier: int | None
    """Of the cluster; None where this role may not read it, and then it is not compared."""
    host: str
    """Name, address, or folder of the socket."""
    port: int
    schema_version: str
    """The newest migration applied, such as `0003_jobs`."""

    def is_same_database(self, other: Fingerprint) -> bool:
        """Whether both lead to one database, as far as can be told."""
        return (
            (self.installation_id, self.database, self.database_oid)
            == (other.installation_id, other.database, other.database_oid)
        ) and (
            self.system_identifier is None
            or other.system_identifier is None
            or self.system_identifier == other.system_identifier
        )

    @property
    def digest(self) -> str:
        """Sixteen digits by which two reports are compared; they tell no host and no name."""
        told = f"{self.installation_id} {self.database} {self.database_oid} {self.system_identifier}"
        return hashlib.sha256(told.encode()).hexdigest()[:16]

    def __str__(self) -> str:
        cluster = "unknown" if self.system_identifier is None else str(self.system_identifier)
        return (
            f"database {self.database} at {self.host} port {self.port} "
            f"(installation {self.installation_id}, cluster {cluster}, oid {self.database_oid})"
        )


def read_fingerprint(connection: Connection) -> Fingerprint:
    """Return the fingerprint of the database a connection leads to; the schema must be there."""
    row = connection.execute(sql(PACKAGE, "read_fingerprint")).fetchone()
    assert row is not None
    installation_id, database, database_oid, cluster_readable, schema_version = row
    # Asked only where it is allowed: Postgres checks the right before it runs a statement, so one with a condition
    # around the call would fail as a whole.
    cluster = connection.execute("SELECT system_identifier FROM pg_control_system()") if cluster_readable else None
    identifier = cluster.fetchone() if cluster is not None else None
    return Fingerprint(
        installation_id=installation_id,
        database=database,
        database_oid=database_oid,
        system_identifier=None if identifier is None else identifier[0],
        host=connection.info.host,
        port=connection.info.port,
        schema_version=schema_version,
    )
