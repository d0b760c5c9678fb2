"""Materializes in a process of its own: says when it is ready, starts at a line on stdin, prints its reports as JSON.

python -m memory_pipeline_tests.defs.materialize_process FIRST END ASSET …
"""

from __future__ import annotations

import sys
from datetime import date

import msgspec

import memory_pipeline.definitions  # noqa: F401  # what takes long comes before "ready"
from memory_pipeline.defs.launch import Observer, materialize
from memory_pipeline.model.window import DayWindow


def main() -> None:
    first, end, *assets = sys.argv[1:]
    print("ready", flush=True)
    sys.stdin.readline()
    unwatched = Observer(lambda name: None, lambda total, unit: None, lambda step: None)
    window = DayWindow(date.fromisoformat(first), date.fromisoformat(end))
    print(msgspec.json.encode(list(materialize(assets, window, unwatched))).decode())


if __name__ == "__main__":
    main()
