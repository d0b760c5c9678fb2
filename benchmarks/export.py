"""Times a full export (Postgres, lake, marts, verified and published DuckDB file) against the bare copy of its rows.

    python -m benchmarks.export --messages 1000000

The bare copy is `SELECT` of the same columns of messages by ADBC, straight into one DuckDB table, checkpointed: what a
script of ten lines would do, without order, Parquet, dimensions, marts, comments, verification, fsync or switch. Both
run in processes of their own, in turn, on the same database; medians are compared.
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
from pathlib import Path
from time import perf_counter

_COLUMNS = """
SELECT tenant_id, message_id, conversation_id, user_id, source, source_message_id, role, speaker, content, content_hash,
       sent_at, position, raw_data, received_at
FROM memory.messages
"""
_START = date(2025, 1, 1)


def bare_copy(pipeline_url: str, folder: Path, _days: int) -> dict[str, float]:
    """ADBC's stream of all messages into one DuckDB table."""
    import duckdb
    from adbc_driver_postgresql import dbapi

    started = perf_counter()
    with closing(dbapi.connect(pipeline_url)) as postgres, closing(postgres.cursor()) as cursor:
        cursor.execute(_COLUMNS)
        with duckdb.connect(str(folder / "bare.duckdb")) as connection:
            connection.register("stream", cursor.fetch_record_batch())
            connection.execute("CREATE TABLE messages AS FROM stream")
            connection.execute("CHECKPOINT")
            rows = connection.execute("SELECT count(*) FROM messages").fetchall()[0][0]
    return {"seconds": perf_counter() - started, "rows": rows}


def full_export(pipeline_url: str, folder: Path, days: int) -> dict[str, float]:
    """The export as the pipeline runs it, into empty folders."""
    from memory_pipeline.model.window import DayWindow
    from memory_pipeline.stages.export import export_lake
    from memory_pipeline.stores.duckdb.publish import publish_duckdb

    started = perf_counter()
    export_lake(pipeline_url, DayWindow(_START, _START + timedelta(days=days)), folder / "lake")
    lake_seconds = perf_counter() - started
    report = publish_duckdb(folder / "lake", folder / "exports", 1)
    return {"seconds": perf_counter() - started, "lake_seconds": lake_seconds, "rows": report.rows["messages"]}


_RUNS = {"bare": bare_copy, "full": full_export}


def run_apart(name: str, pipeline_url: str, folder: Path, days: int) -> dict[str, float]:
    """Run one of the two in a fresh process and folder; peak memory is the larger of it and its verifier."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    command = [sys.executable, "-m", "benchmarks.export", "--run", name, pipeline_url, str(folder), str(days)]
    measured: dict[str, float] = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)
    return measured


@contextmanager
def filled_database(messages: int, days: int) -> Iterator[str]:
    """A Postgres of our own with `messages` messages over `days` days; yields the URL of memory_pipeline."""
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
        yield server.url("memory_pipeline", "bench")
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
    """Print both times, the ratio and the peaks; a difference in rows ends it."""
    started = perf_counter()
    with filled_database(messages, days) as url, tempfile.TemporaryDirectory(prefix="memory-bench-") as scratch:
        print(f"{messages:,} messages over {days} days, made in {perf_counter() - started:.1f} s; {rounds} rounds")
        results: dict[str, list[dict[str, float]]] = {"bare": [], "full": []}
        for _ in range(rounds):
            for name, found in results.items():
                found.append(run_apart(name, url, Path(scratch) / name, days))
                if found[-1]["rows"] != messages:
                    raise SystemExit(f"{name} copied {found[-1]['rows']:,.0f} rows of {messages:,}")
    medians = {name: statistics.median(run["seconds"] for run in found) for name, found in results.items()}
    for name, title in (("bare", "bare ADBC to DuckDB"), ("full", "full export")):
        peak = max(run["peak_mib"] for run in results[name])
        times = ", ".join(f"{run['seconds']:.2f}" for run in results[name])
        print(f"{title:20} {medians[name]:7.2f} s  {messages / medians[name]:9,.0f}/s  peak {peak:5.0f} MiB  ({times})")
    lake = statistics.median(run["lake_seconds"] for run in results["full"])
    print(f"{'  of it the lake':20} {lake:7.2f} s")
    print(f"ratio                {medians['full'] / medians['bare']:7.2f}    (to hold: at most 2.00, and 1,024 MiB)")


if __name__ == "__main__":
    main()
