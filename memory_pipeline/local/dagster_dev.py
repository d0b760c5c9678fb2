"""The Dagster UI, daemon and code server (`dagster dev`) as our child."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path

from memory_pipeline.local.http_child import HttpChild


class DagsterDev(HttpChild):
    """`dagster dev` on 127.0.0.1. Its five processes are stopped as one: signal the first alone, and some stay."""

    def __init__(self, project: Path, log: Path, *, port: int, env: Mapping[str, str]) -> None:
        command = [sys.executable, "-P", "-m", "dagster", "dev", "--workspace", str(project / "workspace.yaml")]
        command += ["--host", "127.0.0.1", "--port", str(port)]
        super().__init__(
            "the Dagster UI",
            command,
            log,
            port=port,
            port_setting="MEMORY_UI_PORT",
            path="/server_info",
            env=env,
            folder=project,
        )
