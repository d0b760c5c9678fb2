"""`recall`: what is remembered of a user, with where each memory comes from."""

from __future__ import annotations

import logging
import time
from contextlib import nullcontext
from uuid import uuid4

from rich.markup import escape

from memory_pipeline.commands.output import err, out, print_json
from memory_pipeline.commands.session import running_pipeline
from memory_pipeline.logs import configure_logs
from memory_pipeline.model.usage import UsageMeter
from memory_pipeline.providers.registry import plugin_names
from memory_pipeline.serving.access_log import QueryEmbedding, charging_failures, log_recall
from memory_pipeline.serving.recall import RecallResult, recall
from memory_pipeline.stages.pipeline import Pipeline
from memory_pipeline.stores.postgres.tenants import find_user


def recall_command(
    query: str,
    email: str,
    tenant: str | None,
    k: int | None,
    turns: int,
    budget: int | None,
    project: str | None,
    *,
    json: bool,
) -> int:
    """Print the answer; exit 1 where something it needs was down."""
    configure_logs(logging.WARNING)  # on standard error: the answer alone goes to standard output
    with running_pipeline() as pipeline:
        result = recall_for(pipeline, query, email, tenant, k=k, turns=turns, budget=budget, project=project)
    if json:
        print_json(result)
    else:
        show_recall(result)
    return 1 if result.degraded else 0


def recall_for(
    pipeline: Pipeline,
    query: str,
    email: str,
    tenant: str | None = None,
    *,
    k: int | None = None,
    turns: int = 0,
    budget: int | None = None,
    project: str | None = None,
    record: bool = True,
) -> RecallResult:
    """Recall for the user with this e-mail; `record` writes down that it was, as `access_log.log_recall` does."""
    with pipeline.database.transaction() as connection:
        user = find_user(connection, email, tenant)
    meter, database, correlation_id = UsageMeter(), pipeline.app_database, uuid4()
    embedding = QueryEmbedding(
        plugin_names(pipeline.settings).embedder,
        pipeline.embedder.model,
        meter,
        pipeline.settings.embedding_price_per_million_tokens,
    )
    started = time.perf_counter()
    with (
        charging_failures(database, user, query, embedding, correlation_id=correlation_id) if record else nullcontext()
    ):
        result = recall(
            database,
            pipeline.chroma,
            pipeline.embedder,
            user,
            query,
            k=k or pipeline.settings.max_context_blocks,
            turns=turns,
            budget=budget,
            project=project,
            meter=meter,
        )
    seconds = time.perf_counter() - started
    if record:
        log_recall(database, user, result, embedding, channel="cli", correlation_id=correlation_id, seconds=seconds)
    return result


def show_recall(result: RecallResult) -> None:
    """Print memories and turns for people."""
    for problem in result.degraded:
        err.print(f"[yellow]degraded[/yellow] {escape(problem)}", highlight=False, soft_wrap=True)
    if not result.memories:
        out.print("nothing is remembered that fits")
    for place, memory in enumerate(result.memories, start=1):
        out.print(f"[bold]{place:>2}.[/bold] {escape(memory.content)}", highlight=False, soft_wrap=True)
        validity = ""
        if memory.kind == "fact" and memory.valid_from is not None:
            until = f" until {memory.valid_to:%Y-%m-%d}" if memory.valid_to else ""
            validity = f" · since {memory.valid_from:%Y-%m-%d}{until}"
        said = "; ".join(
            f"{source.speaker}, {source.said_at:%Y-%m-%d %H:%M}, message {str(source.message_id)[:13]}…"
            for source in memory.sources[:2]
        )
        about = f"{memory.kind}{validity} · score {memory.score:.2f} · {escape(said)}"
        out.print(f"    [dim]{about}[/dim]", highlight=False, soft_wrap=True)
    if result.turns:
        out.print("[bold]last turns[/bold]")
    for turn in result.turns:
        out.print(
            f"    {turn.said_at:%Y-%m-%d %H:%M} {escape(turn.speaker)}: {escape(turn.content)}",
            highlight=False,
            soft_wrap=True,
        )
    if result.omitted:
        out.print(f"[dim]{result.omitted} more did not fit the budget[/dim]", highlight=False, soft_wrap=True)
