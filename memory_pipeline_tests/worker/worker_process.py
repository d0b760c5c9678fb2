"""A worker in a process of its own, for tests that end it: python -m memory_pipeline_tests.worker.worker_process KIND

KIND is "obeying" (jobs do what their payload says: nothing, `exits`, `raises`, `sleeps` so many seconds) or "stages"
(the stages with a small deterministic embedder). Settings come from the environment, as for `memory-pipeline worker`.
`--without MECHANISM` breaks one safety mechanism on purpose, so that a test can see its absence being caught.
`--fork` starts a worker for each line of standard input instead, and says its pid: starting anew takes seconds of
imports, and a test that kills often would measure those.
"""

from __future__ import annotations

import argparse
import ctypes
import importlib
import os
import signal
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import LiteralString

from memory_pipeline.logs import configure_logs
from memory_pipeline.model.jobs import JobType
from memory_pipeline.providers.local_enricher.enricher import LocalEnricher
from memory_pipeline.settings import load_settings
from memory_pipeline.stages.pipeline import Pipeline
from memory_pipeline.stores.postgres import jobs as ledger
from memory_pipeline.stores.postgres.jobs import ClaimedJob
from memory_pipeline.stores.redis.manager import RedisManager
from memory_pipeline.stores.sqlfiles import sql
from memory_pipeline.worker import relay
from memory_pipeline.worker.handlers import Handlers, stage_handlers
from memory_pipeline.worker.outcomes import Done, Outcome
from memory_pipeline.worker.process import Worker
from memory_pipeline_tests.stages.support import HashedEmbedder

TYPES: tuple[JobType, ...] = ("enrich_and_embed", "index", "detect_relations")


def obey(jobs: Sequence[ClaimedJob]) -> list[Outcome]:
    for job in jobs:
        if job.payload.get("exits"):
            os._exit(3)
        if job.payload.get("raises"):
            raise ValueError(f"as the job wanted: {job.payload['raises']}")
        if "sleeps" in job.payload:
            time.sleep(float(job.payload["sleeps"]))
    return [Done()] * len(jobs)


def stages(pipeline: Pipeline, redis: RedisManager) -> Handlers:
    pipeline.embedder, pipeline.enricher = HashedEmbedder(), LocalEnricher()
    return stage_handlers(pipeline, redis, lambda _step, _seconds: None)


def without(mechanism: str) -> None:
    """Break a mechanism in this process."""
    if mechanism == "attempts_at_claim":
        setattr(ledger, "sql", _without_counting)  # noqa: B010 - as monkeypatch does it
    elif mechanism == "reclaim":
        setattr(relay, "reclaim_expired", lambda *_, **__: [])  # noqa: B010
    else:
        raise ValueError(f"there is no mechanism {mechanism!r}")


def _without_counting(package: str, name: str) -> LiteralString:
    text = sql(package, name)
    return text.replace("attempts = j.attempts + 1,", "") if name.startswith("jobs_claim_") else text


def fork_for_each_line() -> bool:
    """True in each child that is to be a worker; False in this process at the end of its input."""
    for module in ("pgvector.psycopg", "memory_pipeline.stores.redis.endpoint", "memory_pipeline.stores.redis.scripts"):
        importlib.import_module(module)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    for _ in iter(sys.stdin.readline, ""):
        pid = os.fork()
        if pid == 0:
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG: none outlives the one that forks
            return True
        print(pid, flush=True)
    return False


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("kind", choices=["obeying", "stages"])
    parser.add_argument("--ready", type=Path, help="a file to make once it works")
    parser.add_argument("--without")
    parser.add_argument("--fork", action="store_true")
    arguments = parser.parse_args()
    if arguments.without:
        without(arguments.without)
    configure_logs()
    if arguments.fork and not fork_for_each_line():
        return
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    make = stages if arguments.kind == "stages" else lambda _pipeline, _redis: Handlers(dict.fromkeys(TYPES, obey))
    with Worker(load_settings(), make) as worker:
        if arguments.ready is not None:
            arguments.ready.touch()
        while not stop.wait(0.2):
            worker.require_running()


if __name__ == "__main__":
    main()
