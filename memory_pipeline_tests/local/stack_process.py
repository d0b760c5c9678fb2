"""A command that uses the local stack, as a process of its own: `python -m … HOME [PREPARE_LOG]`.

Prints the variables as one JSON line when it has the stack, then waits for a line (or the end) of its input.
"""

from __future__ import annotations

import json
import signal
import sys
from pathlib import Path

from memory_pipeline.local.stack import local_stack
from memory_pipeline.settings import load_settings


def main(home: str, prepare_log: str | None = None) -> None:
    # Tests that run in the background are started with SIGINT ignored, Dagster then gives SIGTERM the same handler, and
    # a child inherits that.
    signal.signal(signal.SIGTERM, signal.SIG_DFL)

    def prepare(env: dict[str, str]) -> None:
        if prepare_log is not None:
            with open(prepare_log, "a", encoding="utf-8") as log:
                log.write(env["MEMORY_POSTGRES_ADMIN_URL"] + "\n")

    with local_stack(load_settings(home=Path(home)), prepare=prepare) as env:
        print(json.dumps(env), flush=True)
        sys.stdin.readline()


if __name__ == "__main__":
    main(*sys.argv[1:])
