"""What a stage has still to do: memories listed page by page without a lock, then locked batch by batch.

Going through a list, instead of asking again and again for "the next due ones", takes time linear in the window, ends
even if a memory stays due, and lets runs at the same time share the work: what one holds, the other leaves out.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from datetime import date
from typing import NamedTuple
from uuid import UUID

from psycopg.rows import class_row

from memory_pipeline.stores.postgres.database import Connection, Database
from memory_pipeline.stores.postgres.migrate import PACKAGE
from memory_pipeline.stores.sqlfiles import sql

PAGE_MEMORIES = 20_000
BATCH_BYTES = 16 * 1024 * 1024
"""Text of one batch: a batch holds fewer memories where they are long."""


class DueMemory(NamedTuple):
    """A memory that a stage should look at; pages are in the order of the first three fields."""

    day: date
    tenant_id: UUID
    memory_id: UUID
    bytes: int
    """Length of its text in UTF-8."""


ReadPage = Callable[[Connection, DueMemory, int], list[DueMemory]]
"""Return at most that many due memories after the given one."""


def due_batches(database: Database, read_page: ReadPage, first_day: date, batch_size: int) -> Iterator[list[DueMemory]]:
    """Yield what is due from `first_day` on, in batches of at most `batch_size` memories and 16 MiB of text."""
    last = DueMemory(first_day, UUID(int=0), UUID(int=0), 0)
    while True:
        with database.transaction() as connection:
            page = read_page(connection, last, PAGE_MEMORIES)
        yield from _batches(page, batch_size)
        if len(page) < PAGE_MEMORIES:
            return
        last = page[-1]


def _batches(page: Sequence[DueMemory], batch_size: int) -> Iterator[list[DueMemory]]:
    batch: list[DueMemory] = []
    size = 0
    for memory in page:
        if batch and (len(batch) == batch_size or size + memory.bytes > BATCH_BYTES):
            yield batch
            batch, size = [], 0
        batch.append(memory)
        size += memory.bytes
    if batch:
        yield batch


def read_due(connection: Connection, statement: str, parameters: dict[str, object]) -> list[DueMemory]:
    """Run the listing `statement` (a file in `sql/`)."""
    with connection.cursor(row_factory=class_row(DueMemory)) as cursor:
        return cursor.execute(sql(PACKAGE, statement), parameters).fetchall()


def lock_memories(connection: Connection, batch: Sequence[DueMemory]) -> dict[str, list[UUID]]:
    """Lock those of the batch that no other run holds; return them as parameters `tenant_ids` and `memory_ids`.

    Whether they are still due has to be asked by a statement of its own, after this one: it sees what another run
    committed until the lock was had.
    """
    rows = connection.execute(
        sql(PACKAGE, "lock_memories"),
        {
            "tenant_ids": [memory.tenant_id for memory in batch],
            "memory_ids": [memory.memory_id for memory in batch],
        },
    ).fetchall()
    return {"tenant_ids": [row[0] for row in rows], "memory_ids": [row[1] for row in rows]}
