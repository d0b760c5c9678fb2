"""Watches a ledger from inside Postgres, whatever its workers say of themselves, and judges what they left behind.

A trigger of the superuser, in a schema of its own, notes every time a job ends or comes back from its end.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection
from pathlib import Path
from typing import Any, LiteralString, NamedTuple

import psycopg

from memory_pipeline.model.jobs import JobKey, JobType
from memory_pipeline.model.window import DayWindow
from memory_pipeline.stages.audit import audit
from memory_pipeline.stages.export import export_lake
from memory_pipeline.stages.pipeline import Pipeline
from memory_pipeline.stores.duckdb.generations import current_export
from memory_pipeline.stores.duckdb.publish import publish_duckdb
from memory_pipeline.stores.duckdb.query import query
from memory_pipeline.stores.postgres.checks import exported_rows
from memory_pipeline.stores.redis.manager import RedisManager
from memory_pipeline.stores.redis.stream import JobStream

_WATCH = """
CREATE SCHEMA watch;
CREATE TABLE watch.changes (job_id uuid NOT NULL, old_state text NOT NULL, new_state text NOT NULL);
CREATE FUNCTION watch.note() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog AS $$
BEGIN
    INSERT INTO watch.changes
    SELECT n.job_id, o.state, n.state
    FROM old_rows o JOIN new_rows n ON n.job_id = o.job_id
    WHERE o.state <> n.state AND (n.state IN ('completed', 'dead') OR o.state IN ('completed', 'dead'));
    RETURN NULL;
END $$;
CREATE TRIGGER watch AFTER UPDATE ON memory.memory_jobs
    REFERENCING OLD TABLE AS old_rows NEW TABLE AS new_rows FOR EACH STATEMENT EXECUTE FUNCTION watch.note();
"""


_MESSAGES = (
    "SELECT concat_ws('|', tenant_id, message_id, conversation_id, user_id, role, position, md5(content)) FROM messages"
)
_MEMORIES = (
    "SELECT concat_ws('|', tenant_id, memory_id, user_id, kind, status, version, md5(content), superseded_by)"
    " FROM memories WHERE status <> 'deleted'"
)
_LINES: dict[str, tuple[LiteralString, LiteralString]] = {
    "messages": (_MESSAGES, _MESSAGES),
    "memories": (_MEMORIES, _MEMORIES),
    "jobs": (
        "SELECT concat_ws('|', tenant_id, job_id, job_type, state, subject_id, attempts, error_class) FROM memory_jobs",
        "SELECT concat_ws('|', tenant_id, job_id, job_type, state, subject_id, attempts, error_class) FROM jobs",
    ),
}
"""Each row of a table as a line, from Postgres and from the export."""


class Watched(NamedTuple):
    """What there is to be judged."""

    admin_url: str
    redis_url: str
    max_attempts: int


def watch(admin_url: str) -> None:
    """Begin to note the ends of jobs."""
    with psycopg.connect(admin_url) as connection:
        connection.execute(_WATCH)


def forget(admin_url: str) -> None:
    """Take all jobs away, and what was noted of them."""
    with psycopg.connect(admin_url) as connection:
        connection.execute("TRUNCATE memory.memory_jobs, watch.changes")


def check_jobs(watched: Watched, keys: Collection[JobKey], *, dead: Collection[JobKey] = ()) -> None:
    """The invariants of the queue: nothing lost, nothing doubled, nothing stuck, nobody else's.

    Every job is there under its tenant, and completed or (those named) dead; it ended once; no claim is left; none was
    tried more often than it may; the stream holds nothing and no consumer has an entry.
    """
    with _connection(watched.admin_url) as connection:
        found = connection.execute(
            "SELECT tenant_id, job_id, state, attempts, claim_token IS NOT NULL FROM memory_jobs"
        ).fetchall()
        changes = connection.execute("SELECT job_id, old_state, new_state FROM watch.changes").fetchall()
    states = {JobKey(tenant_id, job_id): state for tenant_id, job_id, state, *_ in found}
    unended = {key: state for key, state in states.items() if state not in ("completed", "dead")}
    assert not unended, f"{len(unended)} jobs are neither completed nor dead, such as {list(unended.items())[:3]}"
    assert states.keys() == set(keys), "jobs are lost, or came from nowhere, or changed their tenant"
    assert {key for key, state in states.items() if state == "dead"} == set(dead), "the wrong jobs are dead"
    assert not any(claimed for *_, claimed in found), "a claim is left"
    most = max((attempts for *_, attempts, _claimed in found), default=0)
    assert most <= watched.max_attempts, f"a job was tried {most} times"
    for job_id, old, new in changes:
        assert old not in ("completed", "dead"), f"job {job_id} went from {old} to {new}"
    ends = Counter(job_id for job_id, *_ in changes)
    assert ends == Counter(key.job_id for key in keys), "a job ended more than once, or never"
    with RedisManager(watched.redis_url) as manager:
        stream = JobStream(manager)
        assert (stream.depth(), stream.in_progress()) == (0, 0), "entries are left in the stream"


def check_memories(
    watched: Watched, pipeline: Pipeline, names: Collection[str], *, failed: Collection[str] = ()
) -> None:
    """The invariants of the stores behind the queue; `names` are those of all acknowledged messages.

    Each message is in Postgres, its episode enriched, embedded and indexed once, but for `failed` (and deleted) ones;
    facts are there once; Postgres and Chroma agree, tenant by tenant; no job speaks of another tenant's memory.
    """
    with _connection(watched.admin_url) as connection:
        stored = connection.execute(
            "SELECT split_part(source_message_id, '/', 2), m.status FROM messages s"
            " JOIN memories m ON m.tenant_id = s.tenant_id AND m.kind = 'episode'"
            " AND s.message_id = ANY (m.source_message_ids)"
        ).fetchall()
        doubled = connection.execute(
            "SELECT tenant_id, content FROM memories WHERE kind = 'fact'"
            " GROUP BY tenant_id, user_id, content, source_message_ids HAVING count(*) > 1"
        ).fetchall()
        unembedded = connection.execute(
            "SELECT m.memory_id FROM memories m WHERE m.status = 'active' AND (SELECT count(*) FROM memory_embeddings e"
            " WHERE e.tenant_id = m.tenant_id AND e.memory_id = m.memory_id AND e.content_hash = m.content_hash) = 0"
        ).fetchall()
        strangers = connection.execute(
            "SELECT j.job_id FROM memory_jobs j LEFT JOIN memories m"
            " ON m.tenant_id = j.tenant_id AND m.memory_id = j.subject_id"
            " WHERE j.job_type = 'enrich_and_embed' AND m.memory_id IS NULL"
        ).fetchall()
    assert Counter(name for name, _ in stored) == Counter(names), "messages are lost or doubled"
    assert {name: status for name, status in stored if name not in failed} == dict.fromkeys(
        set(names) - set(failed), "active"
    ), "episodes are not enriched"
    assert not doubled, f"facts are there more than once: {doubled[:3]}"
    assert not unembedded, f"{len(unembedded)} memories have no vector"
    assert not strangers, "jobs of one tenant name memories of another"
    report = audit(pipeline.database, pipeline.chroma, pipeline.embedder.model, seed=1)
    assert [finding.problem for finding in report.listed] == [], "Postgres and Chroma do not agree"
    assert report.vectors >= len(names) - len(failed)


def export_everything(pipeline_url: str, folder: Path, window: DayWindow) -> Path:
    """Build lake and export anew; return the DuckDB file that is served."""
    export_lake(pipeline_url, window, folder / "lake")
    publish_duckdb(folder / "lake", folder / "exports", 1)
    return current_export(folder / "exports")


def check_export(watched: Watched, exported: Path) -> None:
    """The export holds what Postgres does: as many rows of every table, and every message, memory and job alike."""
    with _connection(watched.admin_url) as connection:
        for table, expected in exported_rows(connection).items():
            ((found,),) = query(exported, f"SELECT count(*) FROM {table}").rows  # noqa: S608 - a name of ours
            assert found == expected, f"the export has {found} rows of {table}, Postgres {expected}"
        for table, (in_postgres, in_export) in _LINES.items():
            there = Counter(line for (line,) in connection.execute(in_postgres))
            here = Counter(line for (line,) in query(exported, in_export, max_rows=None).rows)
            differ = list((here - there) + (there - here))
            assert not differ, f"the export and Postgres differ in {table}: {differ[:3]}"


def job_keys(admin_url: str, *job_types: JobType) -> list[JobKey]:
    """Every job there is, of these types or of any."""
    with _connection(admin_url) as connection:
        found = connection.execute(
            "SELECT tenant_id, job_id FROM memory_jobs WHERE job_type = ANY(%(types)s) OR cardinality(%(types)s) = 0",
            {"types": list(job_types)},
        ).fetchall()
    return [JobKey(*row) for row in found]


def _connection(admin_url: str) -> psycopg.Connection[tuple[Any, ...]]:
    return psycopg.connect(admin_url, options="-c search_path=memory,public")
