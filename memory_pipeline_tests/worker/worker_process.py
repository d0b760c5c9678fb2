"""A worker in a process of its own, for tests that end it: python -m memory_pipeline_tests.worker.worker_process KIND

KIND is "obeying" (jobs do what their payload says: nothing, `exits`, `raises`, `sleeps` so many seconds) or "stages"
(the stages with a small deterministic embedder). Settings come from the environment, as for `memory-pipeline worker`.
`--without MECHANISM` breaks one safety mechanism on purpose, so that a test can see its absence being caught.
"""

from __future__ import annotations

import argparse
import os
import signal
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, LiteralString

from memory_pipeline.logs import configure_logs
from memory_pipeline.model.jobs import JobType
from memory_pipeline.providers.local_enricher.enricher import LocalEnricher
from memory_pipeline.settings import load_settings
from memory_pipeline.stages.pipeline import Pipeline
from memory_pipeline.stores.postgres import jobs as ledger
from memory_pipeline.stores.postgres.jobs import ClaimedJob
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
            raise ValueError("as the job wanted")
        if "sleeps" in job.payload:
            time.sleep(float(job.payload["sleeps"]))
    return [Done()] * len(jobs)


def stages(pipeline: Pipeline) -> Handlers:
    pipeline.embedder, pipeline.enricher = HashedEmbedder(), LocalEnricher()
    return stage_handlers(pipeline, lambda _step, _seconds: None)


def without(mechanism: str) -> None:
    """Break a mechanism in this process."""
    if mechanism == "attempts_at_claim":
        _break_claims("attempts = j.attempts + 1,", "")
    elif mechanism == "reclaim":
        relay.reclaim_expired = lambda *_, **__: {}  # type: ignore[assignment]
    else:
        raise ValueError(f"there is no mechanism {mechanism!r}")


def _break_claims(part: str, replacement: str) -> None:
    whole: Any = ledger.sql

    def broken(package: str, name: str) -> LiteralString:
        text: LiteralString = whole(package, name)
        return text.replace(part, replacement) if name.startswith("jobs_claim_") else text

    ledger.sql = broken  # type: ignore[assignment]


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("kind", choices=["obeying", "stages"])
    parser.add_argument("--ready", type=Path, help="a file to make once it works")
    parser.add_argument("--without")
    arguments = parser.parse_args()
    if arguments.without:
        without(arguments.without)
    configure_logs()
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    make = stages if arguments.kind == "stages" else lambda _pipeline: Handlers(dict.fromkeys(TYPES, obey))
    with Worker(load_settings(), make) as worker:
        if arguments.ready is not None:
            arguments.ready.touch()
        while not stop.wait(0.2):
            worker.require_running()


if __name__ == "__main__":
    main()
