"""Times an import (file to messages, episodes, conversations and events) against a bare COPY of the same messages.

    python -m benchmarks.ingest --messages 1000000

Bare means: the messages are in memory, and psycopg copies their fields into one table without indexes, keys or
policies, as a superuser. The import reads and checks a JSON Lines file, derives ids, and writes as memory_app through
row-level security. Both run in turn on one embedded Postgres, durable as shipped; medians are compared.
"""

from __future__ import annotations

import argparse
import resource
import statistics
import tempfile
from datetime import date
from pathlib import Path
from time import perf_counter

import psycopg

from memory_pipeline.commands.importing import Rejections, import_records
from memory_pipeline.commands.session import scratch_pipeline
from memory_pipeline.importers import ImportOptions, open_importer
from memory_pipeline.model.records import IncomingMessage
from memory_pipeline.stages.pipeline import Pipeline
from memory_pipeline.synthetic import GenerateSpec, generate, write_jsonl

TARGET = 0.15
BARE_TABLE = (
    "CREATE TABLE bare (id text, conversation_id text, content text, sent_at timestamptz, role text, speaker text)"
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--messages", type=int, default=200_000)
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="memory-bench-") as folder:
        path = Path(folder) / "chat.jsonl"
        spec = GenerateSpec(arguments.messages, tenants=1, users=200, days=365, seed=7, start=date(2025, 1, 1))
        write_jsonl(generate(spec), lambda _tenant: path)
        bare: list[float] = []
        imported: list[float] = []
        for _ in range(arguments.rounds):
            with scratch_pipeline("memory-bench-") as pipeline:
                bare.append(time_bare_copy(pipeline, path))
                imported.append(time_import(pipeline, path))
    report(arguments.messages, bare, imported)


def options(pipeline: Pipeline) -> ImportOptions:
    from datetime import UTC, datetime

    return ImportOptions(
        partition_start=date(2025, 1, 1),
        max_message_bytes=pipeline.settings.max_message_bytes,
        now=datetime.now(UTC),
    )


def time_bare_copy(pipeline: Pipeline, path: Path) -> float:
    """Return rows/s of COPY, the rows read and prepared beforehand, a part at a time to bound memory."""
    seconds = 0.0
    rows = 0
    records = open_importer("jsonl", path, options(pipeline))
    with psycopg.connect(str(pipeline.settings.postgres_admin_url)) as connection:
        connection.execute(BARE_TABLE)
        while part := _part(records, 100_000):
            began = perf_counter()
            with connection.cursor() as cursor, cursor.copy("COPY bare FROM STDIN") as copy:
                for row in part:
                    copy.write_row(row)
            seconds += perf_counter() - began
            rows += len(part)
        began = perf_counter()
        connection.commit()
        seconds += perf_counter() - began
    return rows / seconds


def _part(records: object, size: int) -> list[tuple[object, ...]]:
    part: list[tuple[object, ...]] = []
    for record in records:  # type: ignore[attr-defined]
        assert isinstance(record, IncomingMessage), record
        part.append(
            (
                record.source_message_id,
                record.source_conversation_id,
                record.content,
                record.sent_at,
                record.role.value,
                record.speaker,
            )
        )
        if len(part) == size:
            break
    return part


def time_import(pipeline: Pipeline, path: Path) -> float:
    """Return messages/s of the real import into an empty database."""
    began = perf_counter()
    outcome = import_records(
        pipeline, "bench", None, open_importer("jsonl", path, options(pipeline)), Rejections(quiet=False)
    )
    seconds = perf_counter() - began
    assert outcome.rejected == 0, outcome
    return outcome.inserted / seconds


def report(messages: int, bare: list[float], imported: list[float]) -> None:
    ratio = statistics.median(imported) / statistics.median(bare)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"import of {messages:,} messages, {len(bare)} rounds, medians")
    print(f"  bare COPY        {statistics.median(bare):>10,.0f} rows/s   ({min(bare):,.0f} to {max(bare):,.0f})")
    spread = f"({min(imported):,.0f} to {max(imported):,.0f})"
    print(f"  import           {statistics.median(imported):>10,.0f} messages/s   {spread}")
    print(f"  ratio            {ratio:>10.1%}   (target: at least {TARGET:.0%})")
    print(f"  peak memory      {peak:>10,.0f} MiB of this process (target: under 1,024)")


if __name__ == "__main__":
    main()
