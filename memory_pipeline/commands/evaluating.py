"""`eval locomo`: evidence recall through the real stores, on a stack of its own that is thrown away afterwards."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from pathlib import Path

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from memory_pipeline.commands.importing import Rejections, import_records
from memory_pipeline.commands.output import err, out, print_json
from memory_pipeline.commands.session import scratch_pipeline
from memory_pipeline.importers import ImportOptions, open_importer
from memory_pipeline.importers.locomo import sample_email
from memory_pipeline.model.errors import MemoryPipelineError
from memory_pipeline.model.window import DayWindow
from memory_pipeline.providers.registry import plugin_names
from memory_pipeline.serving.evaluation import evaluate_locomo, read_questions, recall_through_stores
from memory_pipeline.stages.embed import embed
from memory_pipeline.stages.enrich import enrich
from memory_pipeline.stages.index import index_memories
from memory_pipeline.stages.pipeline import Pipeline
from memory_pipeline.stages.relate import relate
from memory_pipeline.stores.postgres.plugins import install_plugin
from memory_pipeline.stores.postgres.tenants import find_user, tenant_id_of

_TENANT = "locomo-eval"
_EPOCH = date(1990, 1, 1)


def eval_locomo_command(path: Path, *, json: bool) -> int:
    """Import, enrich, embed and index the file's conversations, ask its questions, print the recall."""
    questions = sum(len(sample.qa) for sample in read_questions(path))
    bar = Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        console=err,
        disable=json or not err.is_terminal,
    )
    with scratch_pipeline("memory-eval-") as pipeline, bar:
        messages = _import(pipeline, path)
        window = DayWindow(_EPOCH, datetime.now(UTC).date() + timedelta(days=2))
        plugins = plugin_names(pipeline.settings)
        with pipeline.database.transaction() as connection:
            # Whoever measures an embedder by a setting means it to see the file.
            install_plugin(connection, tenant_id_of(connection, _TENANT), plugins.embedder, "command:eval")
        enrich(pipeline.database, pipeline.enricher, window, plugin=plugins.enricher)
        relate(pipeline.database, window)
        embedding = bar.add_task("embedding", total=messages)
        embed(
            pipeline.database,
            pipeline.embedder,
            window,
            plugin=plugins.embedder,
            progress=lambda done: bar.advance(embedding, done),
        )
        index_memories(pipeline.database, pipeline.chroma, pipeline.embedder.model, pipeline.embedder.dimension, window)
        with pipeline.database.transaction() as connection:
            users = {
                sample.sample_id: find_user(connection, sample_email(sample.sample_id), _TENANT)
                for sample in read_questions(path)
            }
        asking = bar.add_task("asking", total=questions)
        through_stores = recall_through_stores(pipeline.app_database, pipeline.chroma, pipeline.embedder, users)
        report = evaluate_locomo(path, through_stores, on_question=lambda: bar.advance(asking))
    if json:
        print_json(report)
    else:
        out.print(str(report), highlight=False)
    return 0


def _import(pipeline: Pipeline, path: Path) -> int:
    options = ImportOptions(
        partition_start=_EPOCH, max_message_bytes=pipeline.settings.max_message_bytes, now=datetime.now(UTC)
    )
    rejections = Rejections(quiet=False)
    report = import_records(pipeline, _TENANT, None, open_importer("locomo", path, options), rejections)
    if report.rejected:
        raise MemoryPipelineError(
            f"{report.rejected} turns of {path} were rejected, so the measure would mean nothing."
        )
    return report.inserted
