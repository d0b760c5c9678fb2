"""What a stage has still to do: memories listed page by page without a lock, then locked batch by batch.

Of named memories there is one page, found by key alone.

Going through a list, instead of asking again and again for "the next due ones", takes time linear in the window, ends
even if a memory stays due, and lets runs at the same time share the work: what one holds, the other leaves out.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import date
from typing import NamedTuple
from uuid import UUID

from psycopg.rows import class_row

from memory_pipeline.model.window import NamedMemories, Selection
from memory_pipeline.stores.postgres.database import Connection, Database
from memory_pipeline.stores.postgres.migrate import PACKAGE
from memory_pipeline.stores.postgres.planner import inform_planner
from memory_pipeline.stores.sqlfiles import sql

PAGE_MEMORIES = 20_000
BATCH_BYTES = 16 * 1024 * 1024
"""Text of one batch: a batch holds fewer memories where they are long."""
NAMED_WAIT_SECONDS = 1.0
"""How long a run over named memories waits for a lock: its caller can ask again, and somebody may be waiting for it."""

MemoryKey = tuple[UUID, UUID]
"""Tenant and memory id."""


class DueMemory(NamedTuple):
    """A memory that a stage should look at; pages are in the order of the first three fields."""

    day: date
    tenant_id: UUID
    memory_id: UUID
    bytes: int
    """Length of its text in UTF-8."""


ReadPage = Callable[[Connection, DueMemory, int], list[DueMemory]]
"""Return at most that many due memories after the given one."""


def due_batches(
    database: Database, read_page: ReadPage, selection: Selection, batch_size: int
) -> Iterator[list[DueMemory]]:
    """Yield what is due of the selection, in batches of at most `batch_size` memories and 16 MiB of text."""
    if isinstance(selection, NamedMemories):
        with database.transaction() as connection:
            page = read_page(connection, _before(date.min), PAGE_MEMORIES)
        yield from _batches(page, batch_size)
        return
    last = _before(selection.start)
    while True:
        inform_planner(database)
        with database.transaction() as connection:
            page = read_page(connection, last, PAGE_MEMORIES)
        yield from _batches(page, batch_size)
        if len(page) < PAGE_MEMORIES:
            return
        last = page[-1]


def _before(day: date) -> DueMemory:
    return DueMemory(day, UUID(int=0), UUID(int=0), 0)


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


@contextmanager
def batch_transaction(database: Database, selection: Selection) -> Iterator[Connection]:
    """One transaction for one batch. For named memories it raises BusyError rather than wait for long."""
    with database.transaction() as connection:
        if isinstance(selection, NamedMemories):
            limit_wait(connection, NAMED_WAIT_SECONDS)
        yield connection


def limit_wait(connection: Connection, seconds: float) -> None:
    """Have statements of this transaction fail with LockNotAvailable where they would wait for a lock any longer."""
    connection.execute("SELECT set_config('lock_timeout', %s, true)", [str(max(1, round(seconds * 1000)))])


def key_arrays(keys: Sequence[MemoryKey]) -> dict[str, list[UUID]]:
    """Return keys as the parameters `tenant_ids` and `memory_ids`."""
    return {"tenant_ids": [tenant_id for tenant_id, _ in keys], "memory_ids": [memory_id for _, memory_id in keys]}


def keys_of(named: NamedMemories) -> list[MemoryKey]:
    return [(memory.tenant_id, memory.memory_id) for memory in named.memories]


def named_and_facts(connection: Connection, named: NamedMemories) -> list[MemoryKey]:
    """Return those of the named memories that exist, and the facts found in the messages of the episodes among them."""
    return connection.execute(sql(PACKAGE, "named_and_facts"), key_arrays(keys_of(named))).fetchall()


def lock_memories(connection: Connection, batch: Sequence[DueMemory]) -> dict[str, list[UUID]]:
    """Lock those of the batch that no other run holds; return them as parameters `tenant_ids` and `memory_ids`.

    Whether they are still due has to be asked by a statement of its own, after this one: it sees what another run
    committed until the lock was had.
    """
    keys = [(memory.tenant_id, memory.memory_id) for memory in batch]
    return key_arrays(connection.execute(sql(PACKAGE, "lock_memories"), key_arrays(keys)).fetchall())
