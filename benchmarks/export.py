"""Times exports (Postgres, lake, marts, verified and published DuckDB file) against the bare copy of the same rows.

    python -m benchmarks.export --messages 1000000

The bare copy is `SELECT` of the same columns of the same rows by ADBC, table after table, straight into DuckDB tables,
checkpointed: what a script of ten lines would do, without order, one snapshot, Parquet, marts, comments, verification,
fsync or switch. What is imported, a process imports once, so neither counts it. Bare copies and full exports run in
processes of their own, in turn, on the same database; medians are compared. Then one day of the year gets late messages
and is exported, again and again; and then late messages, other facts, and an hour's share of completed jobs leaving the
ledger at a time. Last the worked questions of the analyst's guide are asked of the file.
"""

from __future__ import annotations

import argparse
import json
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import date, timedelta
from importlib import import_module
from pathlib import Path
from time import perf_counter

_TABLES = {
    "messages": """
SELECT tenant_id, message_id, conversation_id, user_id, source, source_message_id, role, speaker, content, content_hash,
       sent_at, position, raw_data, received_at
FROM memory.messages
""",
    "memories": """
SELECT day, tenant_id, memory_id, user_id, conversation_id, kind, status, content, content_hash, source_message_ids,
       project, raw_data, enricher, confidence, valid_from, valid_to, superseded_by, attempts, failure_class, version,
       created_at, updated_at, subject, predicate, object, negated, slot
FROM memory.memories
""",
    "tenants": "SELECT tenant_id, slug, name, created_at FROM memory.tenants",
    "users": "SELECT tenant_id, user_id, email, display_name, preferences, created_at FROM memory.users",
    "conversations": """
SELECT tenant_id, conversation_id, user_id, source, source_conversation_id, title, project, created_at
FROM memory.conversations
""",
    "memory_relationships": """
SELECT day, tenant_id, from_id, to_id, kind, confidence, detector, created_at
FROM memory.memory_relationships
""",
    "jobs": """
SELECT tenant_id, job_id, job_type, state, priority, subject_id, user_id, day, attempts, error_class, correlation_id,
       created_at, available_at, finished_at
FROM memory.memory_jobs
""",
    "events": """
SELECT tenant_id, event_id, kind, actor, subject_id, correlation_id, detail, occurred_at
FROM memory.events
""",
}
_START = date(2025, 1, 1)
_MOST_SECONDS = 0.3
_MOST_SWITCH_SECONDS = 0.05


def bare_copy(pipeline_url: str, folder: Path, _days: int) -> dict[str, float]:
    """ADBC's streams of all rows into DuckDB tables."""
    import duckdb
    from adbc_driver_postgresql import dbapi

    _import_the_rest()
    started = perf_counter()
    rows = {}
    with (
        closing(dbapi.connect(pipeline_url)) as postgres,
        closing(postgres.cursor()) as cursor,
        duckdb.connect(str(folder / "bare.duckdb")) as connection,
    ):
        for table, statement in _TABLES.items():
            cursor.execute(statement)
            connection.register("stream", cursor.fetch_record_batch())
            connection.sql("FROM stream").create(table)
            connection.unregister("stream")
            rows[table] = connection.table(table).shape[0]
        connection.execute("CHECKPOINT")
    return {"seconds": perf_counter() - started, **rows}


def export(pipeline_url: str, folder: Path, days: int) -> dict[str, float]:
    """The export as the pipeline runs it: of everything into empty folders, else of what changed."""
    from memory_pipeline.model.window import DayWindow
    from memory_pipeline.stages.export import export_lake
    from memory_pipeline.stores.duckdb.publish import publish_duckdb

    _import_the_rest()
    started = perf_counter()
    reports = export_lake(pipeline_url, DayWindow(_START, _START + timedelta(days=days)), folder / "lake")
    lake_seconds = perf_counter() - started
    report = publish_duckdb(folder / "lake", folder / "exports", 1)
    return {
        "seconds": perf_counter() - started,
        "lake_seconds": lake_seconds,
        "switch_seconds": report.switch_seconds,
        "files": sum(one.written for one in reports),
        "whole": report.whole_because is not None,
        **{table: report.rows[table] for table in _TABLES},
    }


def _import_the_rest() -> None:
    """Import what would else be imported on first use: a process does it once, and not for each export."""
    for module in ("adbc_driver_postgresql.dbapi", "duckdb", "pyarrow.parquet"):
        import_module(module)


_RUNS = {"bare": bare_copy, "export": export}


def run_apart(name: str, pipeline_url: str, folder: Path, days: int) -> dict[str, float]:
    """Run one of the two in a fresh process; peak memory is the larger of it and its verifier."""
    folder.mkdir(exist_ok=True)
    command = [sys.executable, "-m", "benchmarks.export", "--run", name, pipeline_url, str(folder), str(days)]
    measured: dict[str, float] = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)
    return measured


@contextmanager
def filled_database(messages: int, days: int) -> Iterator[tuple[str, str]]:
    """A Postgres of our own with as many messages as memories; yields the URLs of memory_pipeline and of the owner."""
    import psycopg

    from memory_pipeline.local.postgres import PostgresServer
    from memory_pipeline.stores.postgres.migrate import migrate

    folder = Path(tempfile.mkdtemp(prefix="memory-bench-"))
    folder.chmod(0o711)
    server = PostgresServer(
        folder / "postgres", folder / "socket", folder / "log", copies=folder / "lib", durable=False
    )
    server.start()
    try:
        with psycopg.connect(server.url(), autocommit=True) as connection:
            connection.execute("CREATE DATABASE bench")
        migrate(server.url(database="bench"))
        with psycopg.connect(server.url(database="bench"), autocommit=True) as connection:
            connection.execute("SELECT set_config('bench.messages', %s, false)", [str(messages)])
            connection.execute("SELECT set_config('bench.days', %s, false)", [str(days)])
            connection.execute(Path(__file__).with_name("export_fill.sql").read_bytes())
            connection.execute("VACUUM ANALYZE")
            connection.execute("CHECKPOINT")
        yield server.url("memory_pipeline", "bench"), server.url(database="bench")
    finally:
        server.stop()
        shutil.rmtree(folder)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--messages", type=int, default=100_000)
    parser.add_argument("--days", type=int, default=365)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--run", nargs=4, metavar=("NAME", "URL", "FOLDER", "DAYS"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.run:
        name, url, folder, days = arguments.run
        measured = _RUNS[name](url, Path(folder), int(days))
        peaks = [resource.getrusage(who).ru_maxrss / 1024 for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
        print(json.dumps({**measured, "peak_mib": max(peaks)}))
        return
    compare(arguments.messages, arguments.days, arguments.rounds)


def compare(messages: int, days: int, rounds: int) -> None:
    """Print times, ratios and peaks; a difference in rows ends it."""
    started = perf_counter()
    with filled_database(messages, days) as (url, owner), tempfile.TemporaryDirectory(prefix="memory-bench-") as made:
        scratch = Path(made)
        print(f"{messages:,} messages and as many memories over {days} days, made in {perf_counter() - started:.1f} s")
        bare, full, changed, all_changed = [], [], [], []
        for _ in range(rounds):
            shutil.rmtree(scratch / "bare", ignore_errors=True)
            bare.append(run_apart("bare", url, scratch / "bare", days))
            shutil.rmtree(scratch / "export", ignore_errors=True)
            full.append(run_apart("export", url, scratch / "export", days))
            if any(bare[-1][table] != full[-1][table] for table in _TABLES) or bare[-1]["messages"] != messages:
                raise SystemExit(f"not the same rows were copied: {bare[-1]}, {full[-1]}")
        for _ in range(rounds):
            change_one_day(owner, "messages")
            changed.append(run_apart("export", url, scratch / "export", days))
        for _ in range(rounds):
            change_one_day(owner, "messages", "memories")
            compact_an_hour(url, days)
            all_changed.append(run_apart("export", url, scratch / "export", days))
        show("bare ADBC to DuckDB", bare)
        show("full export", full)
        show("  of it the lake", full, "lake_seconds")
        show("late messages of a day", changed)
        show("  of it the lake", changed, "lake_seconds")
        show("and facts, and jobs", all_changed)
        again = [*changed, *all_changed]
        print(f"files written {[run['files'] for run in again]}, built whole {[run['whole'] for run in again]}")
        peak = max(run["peak_mib"] for run in full)
        switch = max(run["switch_seconds"] for run in (*full, *again))
        print(f"full / bare         {median(full) / median(bare):8.2f}  (to hold: at most 2.00)")
        print(f"peak memory         {peak:8.0f}  MiB (to hold: at most 1,024)")
        print(f"late messages / full{median(changed) / median(full):8.3f}  (to hold: at most 0.100)")
        print(f"  and facts, jobs   {median(all_changed) / median(full):8.3f}  (to hold: at most 0.100)")
        print(f"slowest switch      {switch * 1000:8.1f}  ms (to hold: under {_MOST_SWITCH_SECONDS * 1000:.0f})")
        slowest, question = max(ask(scratch / "export/exports/memory.duckdb"))
        print(f"slowest question    {slowest * 1000:8.1f}  ms (to hold: under {_MOST_SECONDS * 1000:.0f}): {question}")


def change_one_day(owner_url: str, *tables: str) -> None:
    """Change a day of these tables."""
    import psycopg

    with psycopg.connect(owner_url, autocommit=True) as connection:
        for table in tables:
            connection.execute(Path(__file__).with_name(f"export_change_{table}.sql").read_bytes())


def compact_an_hour(pipeline_url: str, days: int) -> None:
    """Compact an hour's share of the completed jobs of the ledger, by the call of the relay."""
    from memory_pipeline.stores.postgres.database import Database
    from memory_pipeline.stores.postgres.job_reports import compact_completed

    with Database(pipeline_url) as database, database.transaction() as connection:
        ((jobs,),) = connection.execute("SELECT count(*) FROM memory_jobs").fetchall()
        moved = compact_completed(connection, 3, limit=max(1, jobs // (days * 24)))
    if not moved:
        raise SystemExit("no job was compacted")


def ask(file: Path) -> Iterator[tuple[float, str]]:
    """Yield the median seconds of five answers to each worked question, each opening the file as `sql` does."""
    from memory_pipeline.stores.duckdb.query import query
    from memory_pipeline.stores.duckdb.questions import questions

    for question in questions():
        times = []
        for _ in range(5):
            started = perf_counter()
            if not query(file, question.statement).rows:
                raise SystemExit(f"no answer to question {question.number}: {question.question}")
            times.append(perf_counter() - started)
        yield statistics.median(times), f"{question.number}. {question.question}"


def median(runs: list[dict[str, float]], of: str = "seconds") -> float:
    return statistics.median(run[of] for run in runs)


def show(title: str, runs: list[dict[str, float]], of: str = "seconds") -> None:
    times = ", ".join(f"{run[of]:.2f}" for run in runs)
    print(f"{title:20} {median(runs, of):7.2f} s  ({times})")


if __name__ == "__main__":
    main()
