"""What an export knows of the moment of Postgres that it reads: which one it is, and which rows it has."""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

import msgspec


class Fingerprint(msgspec.Struct, frozen=True):
    """The rows of one day of one table as Postgres has them: equal rows, equal fingerprint, in the same database."""

    rows: int
    digest: str
    """Over keys and row versions, not over content: that is cheap, and even an update to the same values changes it."""


class Source(msgspec.Struct, frozen=True, kw_only=True):
    """The moment of Postgres that a table was read at."""

    installation_id: UUID
    database: str
    """System identifier and timeline of the server: row versions of another can't be compared with it."""
    schema_version: int
    """Number of the newest migration."""
    snapshot: str
    """`pg_current_snapshot()`: which transactions are in it."""
    taken_at: datetime

    def same_history(self, other: Source) -> bool:
        """Return whether fingerprints of the two can be compared."""
        return (self.installation_id, self.database) == (other.installation_id, other.database)
