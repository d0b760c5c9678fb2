"""Times the worker: the queue by itself, a message until it is found, and a backlog against the bare embedder.

    python -m benchmarks.worker

1. Queue: jobs without work, added beforehand, through relay, stream, claims and finishes of one worker on a durable
   Postgres. Then single jobs added one after the other: how long until a handler has them.
2. Latency: messages posted over HTTP at a steady rate, the worker a process of its own, as `memory-pipeline up` runs
   it; from the writing of a message until it and its facts are in the index, by the ledger's times.
3. Backlog: messages posted while no worker runs, then drained; against the bare embedder on the same texts.
4. Dagster alone: messages posted at the same rate while no worker runs, and the backlog sensor's runs do the work.
"""

from __future__ import annotations

import argparse
import logging
import threading
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from datetime import UTC, date, datetime
from pathlib import Path
from time import perf_counter, sleep
from typing import Any
from uuid import UUID, uuid4

import structlog

from benchmarks.api import Poster, free_port, percentile, user_token
from benchmarks.pipeline import embedded_texts, time_bare_embedder
from memory_pipeline.commands.session import project_root, scratch_pipeline
from memory_pipeline.local.dagster_dev import DagsterDev
from memory_pipeline.local.own_servers import ApiServer, WorkerServer
from memory_pipeline.stages.pipeline import Pipeline
from memory_pipeline.stores.postgres.jobs import ClaimedJob, NewJob, enqueue
from memory_pipeline.stores.postgres.tenants import ensure_tenant
from memory_pipeline.synthetic import GenerateSpec, generate
from memory_pipeline.worker.handlers import Handlers
from memory_pipeline.worker.outcomes import Done, Outcome
from memory_pipeline.worker.process import Worker

RATE = 20
PAGE = 500
LONGEST_SECONDS = 900.0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--jobs", type=int, default=50_000, help="jobs of the queue part")
    parser.add_argument("--seconds", type=float, default=30, help="how long messages are posted for the latency")
    parser.add_argument("--backlog", type=int, default=10_000, help="messages of the backlog")
    parser.add_argument(
        "--dagster-seconds", type=float, default=60, help="how long messages are posted without a worker"
    )
    arguments = parser.parse_args()
    # A line per micro-batch is the worker's habit, not what is measured here.
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING))
    with scratch_pipeline("memory-bench-") as pipeline:
        time_queue(pipeline, arguments.jobs)
    with scratch_pipeline("memory-bench-") as pipeline:
        time_messages(pipeline, arguments.seconds, arguments.backlog)
    with scratch_pipeline("memory-bench-") as pipeline:
        time_dagster(pipeline, arguments.dagster_seconds)


def time_queue(pipeline: Pipeline, count: int) -> None:
    with pipeline.database.transaction() as connection:
        tenant_id = ensure_tenant(connection, "bench")
    for _ in range(0, count, PAGE):
        add_jobs(pipeline, tenant_id, PAGE)
    waits: list[float] = []

    def note(jobs: Sequence[ClaimedJob]) -> list[Outcome]:
        now = datetime.now(UTC)
        waits.extend(1000 * (now - job.created_at).total_seconds() for job in jobs)
        return [Done()] * len(jobs)

    settings = pipeline.settings.model_copy(update={"worker_batch_jobs": PAGE, "worker_batch_window_ms": 0})
    began = perf_counter()
    with Worker(settings, lambda _pipeline, _redis: Handlers({"enrich_and_embed": note})):
        wait_until_done(pipeline, count)
        seconds = perf_counter() - began
        waits.clear()
        for _ in range(200):
            add_jobs(pipeline, tenant_id, 1)
            sleep(0.02)
        wait_until_done(pipeline, count + 200)
    print(f"queue, {count:,} jobs without work: {count / seconds:,.0f} jobs/s (aim: at least 2,400)")
    print(
        f"  picked up: p50 {percentile(waits, 50):.1f} ms, p99 {percentile(waits, 99):.1f} ms (aim: p50 at most 10 ms)"
    )


def add_jobs(pipeline: Pipeline, tenant_id: UUID, count: int) -> None:
    with pipeline.database.transaction() as connection:
        new = NewJob(tenant_id=tenant_id, job_type="enrich_and_embed", day=date(2026, 1, 1), correlation_id=uuid4())
        enqueue(connection, [new] * count)


def time_messages(pipeline: Pipeline, seconds: float, backlog: int) -> None:
    token = user_token(pipeline)
    messages = conversation(int(seconds * RATE) + backlog)
    with ExitStack() as stops:
        folder = Path(pipeline.settings.home)
        api = ApiServer(folder / "api.log", port=free_port(), env={})
        worker = WorkerServer(folder / "worker.log", port=free_port(), env={})
        for server in (api, worker):
            stops.callback(server.stop)
            server.start()
            server.wait_ready()
        poster = Poster(api.port, token)
        steady = int(seconds * RATE)
        lags = lags_of_steady_messages(pipeline, poster, messages, steady)
        print(
            f"written to searchable at {RATE} messages/s, {seconds:g} s: p50 {percentile(lags, 50):.2f} s,"
            f" p95 {percentile(lags, 95):.2f} s (aim: p50 at most 0.6 s, p95 at most 1.5 s)"
        )
        worker.stop()
        texts_before = set(embedded_texts(pipeline))
        pages = backlog // PAGE
        for _ in range(pages):
            poster.post([next(messages) for _ in range(PAGE)])
        began = perf_counter()
        worker.start()
        worker.wait_ready()
        wait_until_done(pipeline, steady + 1 + pages * PAGE)
        drained = perf_counter() - began
        worker.stop()
    texts = [text for text in embedded_texts(pipeline) if text not in texts_before]
    bare = time_bare_embedder(pipeline, texts)
    rate, bare_rate = len(texts) / drained, len(texts) / bare
    print(
        f"backlog of {pages * PAGE:,} messages ({len(texts):,} texts), worker's start included: {rate:,.0f} texts/s,"
        f" bare embedder {bare_rate:,.0f} texts/s, {rate / bare_rate:.1%} (aim: at least 75 %)"
    )


def time_dagster(pipeline: Pipeline, seconds: float) -> None:
    """Post at a steady rate while Dagster's sensor and runs are all there is to make memories of it."""
    token = user_token(pipeline)
    messages = conversation(int(seconds * RATE))
    with ExitStack() as stops:
        folder = Path(pipeline.settings.home)
        api = ApiServer(folder / "api.log", port=free_port(), env={})
        dagster = DagsterDev(project_root(), folder / "dagster.log", port=free_port(), env={})
        for server in (api, dagster):
            stops.callback(server.stop)
            server.start()
            server.wait_ready()
        poster = Poster(api.port, token)
        lags = lags_of_steady_messages(pipeline, poster, messages, int(seconds * RATE) - 1)
    print(
        f"written to searchable by Dagster alone at {RATE} messages/s, {seconds:g} s: p50 {percentile(lags, 50):.1f} s,"
        f" p95 {percentile(lags, 95):.1f} s (aim: p95 at most 20 s)"
    )


def lags_of_steady_messages(
    pipeline: Pipeline, poster: Poster, messages: Iterator[dict[str, Any]], count: int
) -> list[float]:
    """Post so many messages at the steady rate, after one that makes the index; return how long each took."""
    poster.post([next(messages)])
    wait_until_done(pipeline, 1)
    began = perf_counter()
    for turn in range(count):
        sleep(max(0.0, began + turn / RATE - perf_counter()))
        poster.post([next(messages)])
    wait_until_done(pipeline, count + 1)
    return lag_seconds(pipeline)


def conversation(count: int) -> Iterator[dict[str, Any]]:
    """Messages as an application posts them."""
    for _slug, message in generate(
        GenerateSpec(count + 1, tenants=1, users=1, days=60, seed=5, start=date(2025, 1, 1))
    ):
        yield {
            "id": message.source_message_id,
            "conversation_id": message.source_conversation_id,
            "role": message.role.value,
            "content": message.content,
            "sent_at": message.sent_at.isoformat(),
        }


def wait_until_done(pipeline: Pipeline, count: int) -> None:
    """Wait until so many jobs are completed. Raises where one died, or it takes too long."""
    until = perf_counter() + LONGEST_SECONDS
    while True:
        with pipeline.database.transaction() as connection:
            row = connection.execute(
                "SELECT count(*) FILTER (WHERE state = 'completed'), count(*) FILTER (WHERE state = 'dead')"
                " FROM memory_jobs WHERE job_type = 'enrich_and_embed'"
            ).fetchone()
        assert row is not None
        if row[0] >= count:
            return
        if row[1] or perf_counter() > until:
            raise RuntimeError(f"{row[0]:,} of {count:,} jobs are completed, {row[1]:,} are dead")
        threading.Event().wait(0.1)


def lag_seconds(pipeline: Pipeline) -> list[float]:
    """Seconds from each job's writing to its end, but for the very first."""
    with pipeline.database.transaction() as connection:
        rows = connection.execute(
            "SELECT extract(epoch FROM finished_at - created_at)::float8 FROM memory_jobs"
            " WHERE job_type = 'enrich_and_embed' ORDER BY created_at OFFSET 1"
        ).fetchall()
    return [seconds for (seconds,) in rows]


if __name__ == "__main__":
    main()
