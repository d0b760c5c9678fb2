"""A few days of messages with facts in them, and what every store holds after a run."""

from __future__ import annotations

from datetime import UTC, date, datetime, time, timedelta
from typing import Any

import psycopg

from memory_pipeline.model.window import DayWindow
from memory_pipeline.settings import Settings
from memory_pipeline.stages.pipeline import Pipeline
from memory_pipeline.stores.duckdb.publish import current_export
from memory_pipeline.stores.postgres.index_generations import live_generation
from memory_pipeline.stores.postgres.tenants import all_tenants
from memory_pipeline_tests.stores.export_sample import add_messages, lake_bytes, message

FIRST_DAY = date(2025, 3, 3)
"""A Monday."""
DAYS = 5
WINDOW = DayWindow(FIRST_DAY, FIRST_DAY + timedelta(days=DAYS))
TENANTS = ("acme", "globex")
TEXTS = (
    "I live in Porto with my sister.",
    "I work as a nurse at a children's hospital.",
    "I moved to Lisbon.",
    "My favourite colour is green.",
    "I love hiking in the mountains.",
)
FACTS = (
    "ana's favourite colour is green.",
    "ana lives in Porto.",
    "ana loves hiking in the mountains.",
    "ana moved to Lisbon.",
    "ana moved to Lisbon.",
    "ana works as a nurse.",
    "ana works at a children's hospital.",
)
"""What the local enricher finds in one tenant's messages, sorted."""
_STATE = {
    "messages": "SELECT * FROM messages ORDER BY message_id",
    "memories": "SELECT * FROM memories ORDER BY memory_id",
    "embeddings": "SELECT * FROM memory_embeddings ORDER BY memory_id, model, chunk",
    "relationships": "SELECT * FROM memory_relationships ORDER BY from_id, to_id, kind",
    "generations": "SELECT * FROM index_generations ORDER BY generation_id",
    "entries": "SELECT * FROM index_entries ORDER BY memory_id, chunk",
}


def add_sample(settings: Settings, first_day: date = FIRST_DAY) -> None:
    """Each tenant's user says something on every one of five days, and one thing twice."""
    for tenant in TENANTS:
        days = [datetime.combine(first_day + timedelta(days=n), time(9), tzinfo=UTC) for n in range(DAYS)]
        messages = [message(tenant, f"m{n}", days[n], text) for n, text in enumerate(TEXTS)]
        messages.append(message(tenant, "again", days[-1] + timedelta(hours=9), TEXTS[2]))
        add_messages(str(settings.postgres_pipeline_url), tenant, messages)


MESSAGES = len(TENANTS) * (len(TEXTS) + 1)


def store_state(settings: Settings) -> dict[str, Any]:
    """Return everything that the derived stores hold, to the byte."""
    with psycopg.connect(str(settings.postgres_pipeline_url), options="-c search_path=memory,public") as connection:
        state: dict[str, Any] = {name: connection.execute(query.encode()).fetchall() for name, query in _STATE.items()}
    with Pipeline(settings) as pipeline:
        state["chroma"] = index_entries(pipeline)
        state["lake"] = lake_bytes(pipeline.lake_root)
        state["export"] = current_export(pipeline.exports_root)
    return state


def index_entries(pipeline: Pipeline) -> dict[str, list[Any]]:
    """Return what Chroma holds of each tenant."""
    with pipeline.database.transaction() as connection:
        tenants = all_tenants(connection)
        live = {slug: live_generation(connection, id_, pipeline.embedder.model) for id_, slug in tenants.items()}
    return {
        slug: sorted(pipeline.chroma.entries(generation.collection_uuid)) if generation else []
        for slug, generation in live.items()
    }
