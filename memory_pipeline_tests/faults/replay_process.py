"""Replays the write buffer in a process of its own, which stops in the middle of it to be killed.

python -m memory_pipeline_tests.faults.replay_process PIPELINE_URL APP_URL REDIS_URL WHERE ENTRY

WHERE is "written" (Postgres has the messages of the entry, not yet its ledger row) or "recorded" (it has both, and the
entry is still in the buffer). Says "there" and waits for ever.
"""

from __future__ import annotations

import sys
import time
from uuid import UUID

from memory_pipeline.model.records import BufferedWrite
from memory_pipeline.serving.buffering import replay
from memory_pipeline.stores.postgres.database import Database
from memory_pipeline.stores.redis.buffer import WriteBuffer
from memory_pipeline.stores.redis.manager import RedisManager
from memory_pipeline_tests.serving.buffered_writes import Ingest


def wait_to_be_killed() -> None:
    print("there", flush=True)
    time.sleep(600)


def main() -> None:
    pipeline_url, app_url, redis_url, where, entry_id = sys.argv[1:]
    fatal = UUID(entry_id)

    class Buffer(WriteBuffer):
        def remove(self, *entries: BufferedWrite) -> int:
            if where == "recorded" and any(entry.entry_id == fatal for entry in entries):
                wait_to_be_killed()
            return super().remove(*entries)

    with (
        RedisManager(redis_url) as manager,
        Database(pipeline_url, role="memory_pipeline") as pipeline,
        Database(app_url, role="memory_app") as app,
    ):
        ingest = Ingest(app)

        def write(entry: BufferedWrite) -> int:
            inserted = ingest(entry)
            if where == "written" and entry.entry_id == fatal:
                wait_to_be_killed()
            return inserted

        replay(Buffer(manager, 10_000, 100_000_000), pipeline, write)


if __name__ == "__main__":
    main()
