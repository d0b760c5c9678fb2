"""Times the index stage (Postgres to Chroma, with its bookkeeping) against bare `collection.add` of the same rows.

    python -m benchmarks.index --rows 20000

Bare means: everything is read and prepared beforehand, then chromadb's own client adds the same vectors, metadata and
documents, in batches of the same size, to an empty collection on the same server. Both run in turn, in one process;
medians are compared. What follows is what a second run over unchanged rows costs, which bare adding can't do at all.
"""

from __future__ import annotations

import argparse
import resource
import shutil
import statistics
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import date
from pathlib import Path
from time import perf_counter
from urllib.parse import urlsplit
from uuid import UUID

from memory_pipeline.model.window import DayWindow
from memory_pipeline.stages.index import BATCH_ROWS, index_memories
from memory_pipeline.stages.vector_payload import memory_document, vector_metadata
from memory_pipeline.stores.chroma.store import ChromaStore, VectorBatch
from memory_pipeline.stores.postgres.database import Database

_MODEL = "random"
_EVERY_DAY = DayWindow(date.min, date.max)
_TARGET = 1.15


@contextmanager
def servers(rows: int, dimension: int) -> Iterator[tuple[Database, ChromaStore]]:
    """A Postgres of our own with `rows` vectors, as memory_pipeline, and an empty Chroma."""
    import psycopg

    from memory_pipeline.local.chroma import ChromaServer
    from memory_pipeline.local.postgres import PostgresServer
    from memory_pipeline.stores.postgres.migrate import migrate

    folder = Path(tempfile.mkdtemp(prefix="memory-bench-"))
    folder.chmod(0o711)
    postgres = PostgresServer(
        folder / "postgres", folder / "socket", folder / "postgres.log", copies=folder / "lib", durable=False
    )
    chroma = ChromaServer(folder / "chroma", folder / "chroma.log")
    try:
        postgres.start()
        chroma.start()
        with psycopg.connect(postgres.url(), autocommit=True) as connection:
            connection.execute("CREATE DATABASE bench")
        admin_url = postgres.url(database="bench")
        migrate(admin_url)
        with psycopg.connect(admin_url, autocommit=True, options="-c search_path=memory,public") as connection:
            connection.execute("SELECT set_config('bench.rows', %s, false)", [str(rows)])
            connection.execute("SELECT set_config('bench.dimension', %s, false)", [str(dimension)])
            connection.execute(Path(__file__).with_name("index_fill.sql").read_bytes())
            connection.execute("VACUUM ANALYZE")
        url = postgres.url("memory_pipeline", "bench")
        with Database(url) as database, ChromaStore(chroma.url, timeout_seconds=600) as store:
            yield database, store
    finally:
        chroma.stop()
        postgres.stop()
        shutil.rmtree(folder)


def prepared_batches(database: Database, dimension: int, batch_rows: int) -> list[VectorBatch]:
    """Everything the stage would write, as arguments of `collection.add`."""
    import numpy as np

    from memory_pipeline.model.ids import vector_id
    from memory_pipeline.stores.postgres.index import FIRST_KEY, due_keys, due_vectors
    from memory_pipeline.stores.postgres.index_generations import Generation

    batches: list[VectorBatch] = []
    with database.transaction() as connection:
        [(tenant_id,)] = connection.execute("SELECT tenant_id FROM tenants").fetchall()
        nothing_indexed = Generation(tenant_id, UUID(int=0), _MODEL, dimension, "", UUID(int=0), "building")
        keys = due_keys(connection, nothing_indexed, _EVERY_DAY, FIRST_KEY, 1 << 31)
        for start in range(0, len(keys), batch_rows):
            named = keys[start : start + batch_rows]
            page = due_vectors(connection, nothing_indexed, named, documents=True, page_bytes=1 << 31)
            batches.append(
                VectorBatch(
                    [vector_id(*row.key) for row in page],
                    np.stack([row.embedding.to_numpy() for row in page]),
                    [vector_metadata(row) for row in page],
                    [memory_document(tenant_id, row) for row in page],
                )
            )
    return batches


def time_bare_add(url: str, batches: list[VectorBatch]) -> float:
    import chromadb

    address = urlsplit(url)
    client = chromadb.HttpClient(
        str(address.hostname), address.port or 8000, settings=chromadb.config.Settings(anonymized_telemetry=False)
    )
    collection = client.create_collection("bare", configuration={"hnsw": {"space": "cosine"}}, embedding_function=None)
    started = perf_counter()
    for batch in batches:
        collection.add(
            ids=batch.ids,
            embeddings=batch.vectors,
            metadatas=batch.metadatas,  # type: ignore[arg-type]  # plain dicts to chromadb
            documents=batch.documents,
        )
    seconds = perf_counter() - started
    expect("bare add", collection.count(), sum(len(batch.ids) for batch in batches))
    client.delete_collection("bare")
    return seconds


def time_stage(
    database: Database, chroma: ChromaStore, rows: int, dimension: int, batch_rows: int
) -> tuple[float, float]:
    """Return the seconds of indexing everything and of indexing it again; forgets the index afterwards."""
    first = index_memories(database, chroma, _MODEL, dimension, _EVERY_DAY, batch_rows=batch_rows)
    expect("the stage", first.added, rows)
    again = index_memories(database, chroma, _MODEL, dimension, _EVERY_DAY, batch_rows=batch_rows)
    expect("the second run", again.added + again.updated, 0)
    for collection in list(chroma.collections("t_")):
        expect("its collection", chroma.count(collection.uuid), rows)
        chroma.delete_collection(collection.uuid)
    with database.transaction() as connection:
        connection.execute("DELETE FROM index_generations")
    return first.seconds, again.seconds


def expect(who: str, found: int, wanted: int) -> None:
    if found != wanted:
        raise SystemExit(f"{who}: {found:,} vectors instead of {wanted:,}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=20_000)
    parser.add_argument("--dimension", type=int, default=384)
    parser.add_argument("--batch-rows", type=int, default=BATCH_ROWS)
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    rows, dimension = arguments.rows, arguments.dimension
    bare: list[float] = []
    stage: list[float] = []
    again: list[float] = []
    with servers(rows, dimension) as (database, chroma):
        print(f"{rows:,} vectors of {dimension} dimensions, {arguments.batch_rows:,} a batch", flush=True)
        batches = prepared_batches(database, dimension, arguments.batch_rows)
        for _ in range(arguments.rounds):
            bare.append(time_bare_add(chroma.url, batches))
            first, second = time_stage(database, chroma, rows, dimension, arguments.batch_rows)
            stage.append(first)
            again.append(second)
    medians = {"bare collection.add": bare, "index stage": stage, "index stage, unchanged": again}
    for title, seconds in medians.items():
        median = statistics.median(seconds)
        times = ", ".join(f"{one:.2f}" for one in seconds)
        print(f"{title:24} {median:7.2f} s  {rows / median:9,.0f}/s  ({times})")
    print(f"ratio {statistics.median(stage) / statistics.median(bare):26.2f}    (to hold: at most {_TARGET})")
    print(f"peak memory {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:20.0f} MiB, the bare rows included")


if __name__ == "__main__":
    main()
