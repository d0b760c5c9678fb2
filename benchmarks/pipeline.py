"""Times the whole pipeline, from a file to the published DuckDB, against the bare embedder on the same texts.

    python -m benchmarks.pipeline --messages 20000

The pipeline imports a JSON Lines file and materializes every asset in Dagster runs on a real instance: enrichment,
relations, summaries, embedding, indexing, lake, DuckDB, checks, audit. Its rate is the texts that went through the
model over the whole time. Bare means: those same texts, read back from Postgres, through the same embedder alone, in
slices of the size the pipeline uses.
"""

from __future__ import annotations

import argparse
import resource
import tempfile
from datetime import date, timedelta
from pathlib import Path
from time import perf_counter

from benchmarks.ingest import options
from memory_pipeline.commands.importing import Rejections, import_records
from memory_pipeline.commands.materializing import run_assets
from memory_pipeline.commands.session import scratch_pipeline
from memory_pipeline.importers import open_importer
from memory_pipeline.model.window import DayWindow
from memory_pipeline.stages.embed import BATCH_TEXTS
from memory_pipeline.stages.pipeline import Pipeline
from memory_pipeline.synthetic import GenerateSpec, generate, write_jsonl

TARGET = 0.75
START = date(2025, 1, 1)
DAYS = 60


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--messages", type=int, default=20_000)
    arguments = parser.parse_args()
    with (
        tempfile.TemporaryDirectory(prefix="memory-bench-") as folder,
        scratch_pipeline("memory-bench-") as pipeline,
    ):
        path = Path(folder) / "chat.jsonl"
        write_jsonl(
            generate(GenerateSpec(arguments.messages, tenants=1, users=20, days=DAYS, seed=11, start=START)),
            lambda _tenant: path,
        )
        pipeline.embedder.embed(["warm"])
        seconds = time_pipeline(pipeline, path)
        texts = embedded_texts(pipeline)
        bare = time_bare_embedder(pipeline, texts)
    rate, bare_rate = len(texts) / seconds, len(texts) / bare
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(
        f"{arguments.messages:,} messages, {len(texts):,} texts embedded (messages, facts, summaries; equal ones once)"
    )
    print(f"  bare embedder    {bare_rate:>8,.1f} texts/s   {bare:,.1f} s")
    print(f"  whole pipeline   {rate:>8,.1f} texts/s   {seconds:,.1f} s, import to published DuckDB")
    print(f"  ratio            {rate / bare_rate:>8.1%}   (target: at least {TARGET:.0%})")
    print(f"  peak memory      {peak:>8,.0f} MiB of this process")


def time_pipeline(pipeline: Pipeline, path: Path) -> float:
    """Import and materialize everything; return seconds."""
    began = perf_counter()
    report = import_records(
        pipeline, "bench", None, open_importer("jsonl", path, options(pipeline)), Rejections(quiet=False)
    )
    imported = perf_counter() - began
    reports = run_assets([], DayWindow(START, START + timedelta(days=DAYS)), quiet=True)
    seconds = perf_counter() - began
    assert all(run.succeeded for run in reports), reports
    print(f"import {report.inserted:,} messages: {imported:.1f} s")
    for run in reports:
        for step in run.steps:
            print(f"  {step.name:<22} {step.seconds:>7.2f} s")
        print(f"  run of {len(run.assets)} assets       {run.seconds:>7.2f} s")
    return seconds


def embedded_texts(pipeline: Pipeline) -> list[str]:
    """Return every text that went through the model, in the order of the pipeline."""
    with pipeline.database.transaction() as connection:
        rows = connection.execute(
            "SELECT min(m.content) FROM memories m WHERE m.status IN ('active', 'superseded')"
            " GROUP BY m.tenant_id, m.content_hash ORDER BY min(m.day), min(m.memory_id::text)"
        ).fetchall()
    return [chunk for (content,) in rows for chunk in pipeline.embedder.chunk(content)]


def time_bare_embedder(pipeline: Pipeline, texts: list[str]) -> float:
    """Embed the texts and do nothing else; return seconds."""
    began = perf_counter()
    for start in range(0, len(texts), BATCH_TEXTS):
        pipeline.embedder.embed(texts[start : start + BATCH_TEXTS])
    return perf_counter() - began


if __name__ == "__main__":
    main()
