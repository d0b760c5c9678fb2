"""The API and the worker (`memory-pipeline api`, `memory-pipeline worker`) as our children."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path

from memory_pipeline.local.http_child import HttpChild


class ApiServer(HttpChild):
    """The API process on 127.0.0.1."""

    def __init__(self, log: Path, *, port: int, env: Mapping[str, str]) -> None:
        super().__init__(
            "the API",
            [sys.executable, "-P", "-m", "memory_pipeline.cli", "api"],
            log,
            port=port,
            port_setting="MEMORY_API_PORT",
            path="/api/v1/memory/health",
            env={**env, "MEMORY_API_HOST": "127.0.0.1", "MEMORY_API_PORT": str(port)},
        )


_SIGN_OFF_SECONDS = 20.0
"""What a worker may take to stop beyond its longest job."""


class WorkerServer(HttpChild):
    """A worker process; it is up once it shows its metrics."""

    def __init__(self, log: Path, *, port: int, env: Mapping[str, str], job_seconds: float = 30.0) -> None:
        """`job_seconds`: the longest that a job may take, and so what a graceful stop may wait for."""
        super().__init__(
            "the worker",
            [sys.executable, "-P", "-m", "memory_pipeline.cli", "worker"],
            log,
            port=port,
            port_setting="MEMORY_WORKER_PORT",
            path="/metrics",
            env={**env, "MEMORY_WORKER_PORT": str(port)},
            stop_seconds=job_seconds + _SIGN_OFF_SECONDS,
        )
