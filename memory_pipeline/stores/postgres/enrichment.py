"""Statements of the enrich and relate stages: taking unread episodes, writing facts, ordering facts in time."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date, datetime
from typing import NamedTuple
from uuid import UUID, uuid4

from psycopg.rows import class_row

from memory_pipeline.model import ids
from memory_pipeline.model.jobs import MEMORY_TYPES
from memory_pipeline.model.window import NamedMemories, NamedMemory, Selection
from memory_pipeline.stores.postgres.database import Connection
from memory_pipeline.stores.postgres.due import DueMemory, key_arrays, keys_of, lock_memories, named_and_facts, read_due
from memory_pipeline.stores.postgres.migrate import PACKAGE
from memory_pipeline.stores.sqlfiles import sql

_LONGEST_FAILURE = 2_000
_ANALYZE_FROM_FACTS = 500
"""Fewer are about what the planner takes a temporary table for; analyzing costs more than all the rest of them."""


class UnreadEpisode(NamedTuple):
    """An episode memory with the message it stands for."""

    tenant_id: UUID
    memory_id: UUID
    user_id: UUID
    conversation_id: UUID
    project: str | None
    day: date
    message_id: UUID
    role: str
    speaker: str
    content: str
    sent_at: datetime
    was_read: bool
    """By some enricher; it has facts of before at most then."""


class FoundFact(NamedTuple):
    """A row of the temporary table `found_fact`, in the order of its columns."""

    tenant_id: UUID
    memory_id: UUID
    user_id: UUID
    conversation_id: UUID | None
    message_id: UUID
    day: date
    project: str | None
    content: str
    subject: str
    predicate: str
    object: str
    negated: bool
    slot: str | None
    confidence: float
    valid_from: datetime
    stated_valid_to: datetime | None


class Failure(NamedTuple):
    """Why one memory went to the dead letters."""

    tenant_id: UUID
    memory_id: UUID
    failure_class: str
    failure_text: str

    @classmethod
    def of(cls, tenant_id: UUID, memory_id: UUID, error: Exception) -> Failure:
        """The failure of a memory by `error`, whose text may hold what Postgres can't store."""
        text = str(error).replace("\0", "\ufffd").encode("utf-8", "replace").decode()
        return cls(tenant_id, memory_id, type(error).__name__, text[:_LONGEST_FAILURE] or "no text")


def due_episodes(
    connection: Connection, selection: Selection, enricher: str, plugin: str, after: DueMemory, limit: int
) -> list[DueMemory]:
    """List the next episodes of the window, or all of those named, that `enricher` (name@version) has not read.

    Only of tenants for whom the stages may run `plugin`.
    """
    if isinstance(selection, NamedMemories):
        return _named_episodes(connection, selection, enricher, plugin, permitted=True)
    return read_due(
        connection,
        "due_episodes",
        {
            "day": after.day,
            "tenant_id": after.tenant_id,
            "memory_id": after.memory_id,
            "end": selection.end,
            "enricher": enricher,
            "plugin": plugin,
            "limit": limit,
        },
    )


def refused_episodes(
    connection: Connection, selection: Selection, enricher: str, plugin: str, barred: Sequence[UUID]
) -> list[UUID]:
    """Return which tenants of `barred`, for whom `plugin` may not run, have episodes that `enricher` has not read."""
    if isinstance(selection, NamedMemories):
        named = _named_episodes(connection, selection, enricher, plugin, permitted=False)
        return [memory.tenant_id for memory in named]
    parameters = {"barred": barred, "start": selection.start, "end": selection.end, "enricher": enricher}
    rows = connection.execute(sql(PACKAGE, "refused_episodes"), parameters).fetchall()
    return [tenant_id for (tenant_id,) in rows]


def _named_episodes(
    connection: Connection, named: NamedMemories, enricher: str, plugin: str, *, permitted: bool
) -> list[DueMemory]:
    return read_due(
        connection,
        "due_named_episodes",
        {**key_arrays(keys_of(named)), "enricher": enricher, "plugin": plugin, "permitted": permitted},
    )


def take_unenriched(
    connection: Connection, enricher: str, plugin: str, batch: Sequence[DueMemory]
) -> list[UnreadEpisode]:
    """Lock and return those of the episodes that `enricher` still has not read, may read, and no other run holds."""
    locked = lock_memories(connection, batch)
    with connection.cursor(row_factory=class_row(UnreadEpisode)) as cursor:
        parameters = {**locked, "enricher": enricher, "plugin": plugin}
        return cursor.execute(sql(PACKAGE, "take_unenriched"), parameters).fetchall()


def write_facts(
    connection: Connection, enricher: str, read: Sequence[UnreadEpisode], facts: Sequence[FoundFact]
) -> tuple[int, int]:
    """Store what `enricher` found in the episodes `read` and mark them; return (facts written, facts withdrawn)."""
    # Facts must not change under `relate_facts`, which holds the same lock alone: it would undo them or deadlock.
    connection.execute("SELECT pg_advisory_xact_lock_shared(hashtext('relate_facts'))")
    again = [episode for episode in read if episode.was_read]
    written = withdrawn = 0
    if facts or again:
        _stage_facts(connection, facts)
    if again:
        withdrawn = connection.execute(
            sql(PACKAGE, "withdraw_facts"),
            {
                "enricher": enricher,
                "tenant_ids": [episode.tenant_id for episode in again],
                "message_ids": [episode.message_id for episode in again],
            },
        ).rowcount
    if facts:
        written = connection.execute(sql(PACKAGE, "upsert_facts"), {"enricher": enricher}).rowcount
    connection.execute(
        sql(PACKAGE, "mark_enriched"),
        {
            "enricher": enricher,
            "tenant_ids": [episode.tenant_id for episode in read],
            "memory_ids": [episode.memory_id for episode in read],
        },
    )
    return written, withdrawn


def _stage_facts(connection: Connection, facts: Sequence[FoundFact]) -> None:
    connection.execute(sql(PACKAGE, "found_fact_table"))
    with connection.cursor() as cursor, cursor.copy("COPY found_fact FROM STDIN") as copy:
        for fact in facts:
            copy.write_row(fact)
    if len(facts) >= _ANALYZE_FROM_FACTS:
        connection.execute("ANALYZE found_fact")


def mark_failed(connection: Connection, failures: Sequence[Failure]) -> None:
    """Move memories (locked before) to the dead letters, with the reason.

    One that no job speaks for (imports write none) gets a dead job, so that it shows where dead jobs do and is tried
    again as they are. What fails once more adds no other.
    """
    reasons = {(failure.tenant_id, failure.memory_id): failure for failure in failures}
    rows = connection.execute(sql(PACKAGE, "mark_failed"), _reason_columns(list(reasons.values()))).fetchall()
    episodes = {
        (tenant_id, memory_id): UUID(ids.episode_hex(message_id.hex))
        for tenant_id, memory_id, kind, message_id in rows
        if kind == "fact"
    }
    failed = [reasons[tenant_id, memory_id] for tenant_id, memory_id, _kind, _message_id in rows]
    # One at a time, so that of two facts of one message that fail in two runs one finds the job of the other. Whoever
    # holds this waits for nobody any more.
    connection.execute("SELECT pg_advisory_xact_lock(hashtext('mark_failed'))")
    connection.execute(
        sql(PACKAGE, "jobs_dead_for_memories"),
        _reason_columns(failed)
        | {
            "episode_ids": [episodes.get((failure.tenant_id, failure.memory_id)) for failure in failed],
            "job_types": list(MEMORY_TYPES),
            "correlation_id": uuid4(),
        },
    )


def _reason_columns(failures: Sequence[Failure]) -> dict[str, object]:
    return {
        "tenant_ids": [failure.tenant_id for failure in failures],
        "memory_ids": [failure.memory_id for failure in failures],
        "failure_classes": [failure.failure_class for failure in failures],
        "failure_texts": [failure.failure_text for failure in failures],
    }


class Related(NamedTuple):
    """What ordering facts did."""

    changed: int
    written: int
    """Relations."""
    changed_facts: list[NamedMemory]
    """Which facts changed, where the selection names memories; of days they are too many to be listed."""


def relate_facts(connection: Connection, selection: Selection) -> Related:
    """Order the facts that share a slot with one of the selection.

    Of named memories: the facts among them and those found in them.

    Within a slot (of one subject of one user) a fact ends when a later one contradicts it: it is superseded by that
    one, and valid until then. Facts that say the same, with nothing between that ends them, support the first of them.
    (What contradicts what is told in `fact_places.sql`.) The outcome depends on the set of facts alone, so it does not
    matter when or how often this runs; one run at a time does it (advisory lock), because two that see different facts
    would undo each other.
    """
    connection.execute("SELECT pg_advisory_xact_lock(hashtext('relate_facts'))")
    if isinstance(selection, NamedMemories):
        keys = key_arrays(named_and_facts(connection, selection))
        connection.execute(sql(PACKAGE, "touched_named_slots"), keys)
    else:
        connection.execute(sql(PACKAGE, "touched_slots"), {"start": selection.start, "end": selection.end})
    connection.execute("ANALYZE touched_slot")
    connection.execute(sql(PACKAGE, "fact_places"))
    connection.execute("ANALYZE fact_place")
    connection.execute(sql(PACKAGE, "fact_runs"))
    connection.execute("ANALYZE fact_run")
    changed_facts: list[NamedMemory] = []
    if isinstance(selection, NamedMemories):
        ended = connection.execute(sql(PACKAGE, "end_superseded_facts", returning="returning_memories"))
        changed_facts = [NamedMemory(*row) for row in ended.fetchall()]
    else:
        ended = connection.execute(sql(PACKAGE, "end_superseded_facts"))
    changed = ended.rowcount
    connection.execute(sql(PACKAGE, "drop_stale_relations"))
    written = connection.execute(sql(PACKAGE, "insert_relations")).rowcount
    return Related(changed, written, changed_facts)
