"""The schema as pg_dump prints it, kept in docs/schema.sql so that every change of it is seen in review.

`python -m memory_pipeline_tests.stores.postgres.schema_snapshot` rewrites the file from the migrations.
"""

from __future__ import annotations

import re
import subprocess
import tempfile
from pathlib import Path

from memory_pipeline.local.accounts import reachable_home
from memory_pipeline.local.postgres import PostgresServer, installed_postgres
from memory_pipeline.stores.postgres.migrate import migrate

SNAPSHOT = Path(__file__).parents[3] / "docs" / "schema.sql"
COMMAND = f"python -m {__spec__.name if __spec__ else __name__}"
_HEAD = f"-- The schema `memory` after all migrations, as pg_dump prints it. Generated: {COMMAND}\n\n"
# Settings of the session, restrictions with a random word, and comments that name objects or versions.
_VOLATILE = re.compile(
    r"(SET |SELECT pg_catalog\.set_config|\\restrict|\\unrestrict|--$|-- Name: |-- Dumped |-- PostgreSQL )"
)


def dump_schema(admin_url: str) -> str:
    """Return the schema of a database as text that depends on nothing but the schema."""
    dumped = subprocess.run(
        [installed_postgres() / "bin" / "pg_dump", "--schema-only", "--schema=memory", f"--dbname={admin_url}"],
        check=True,
        capture_output=True,
        text=True,
        timeout=60,
    ).stdout
    kept = [line for line in dumped.splitlines() if not _VOLATILE.match(line)]
    return _HEAD + re.sub(r"\n{3,}", "\n\n", "\n".join(kept).strip()) + "\n"


def main() -> None:
    """Migrate a new server and write its schema to the snapshot."""
    parent = reachable_home(Path(tempfile.gettempdir()), say=print)
    with tempfile.TemporaryDirectory(prefix="memory-schema-", dir=parent) as name:
        folder = Path(name)
        folder.chmod(0o711)
        log = folder / "postgres.log"
        server = PostgresServer(folder / "postgres", folder / "socket", log, copies=folder / "lib", durable=False)
        server.start()
        try:
            migrate(server.url())
            SNAPSHOT.write_text(dump_schema(server.url()), encoding="utf-8")
        finally:
            server.stop()
    print(f"wrote {SNAPSHOT}")


if __name__ == "__main__":
    main()
