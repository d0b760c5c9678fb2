"""Enrichment: every new message is read once by the enricher, and what it finds is stored as facts.

A message that makes the enricher fail, or answer what can't be stored, goes to the dead letters with the reason; its
neighbours are not held up. When the enricher's version changes, the messages of a window are read again: facts that
come out alike are not touched.
"""

from __future__ import annotations

import time
from uuid import UUID

import msgspec

from memory_pipeline.model import ids
from memory_pipeline.model.errors import BusyError, ProviderError, ProviderUnavailableError
from memory_pipeline.model.records import FactDraft, Role, Turn
from memory_pipeline.model.validation import check_text
from memory_pipeline.model.window import Progress, Selection, no_progress
from memory_pipeline.providers.base import Enricher
from memory_pipeline.stores.postgres.database import Connection, Database
from memory_pipeline.stores.postgres.due import DueMemory, batch_transaction, due_batches
from memory_pipeline.stores.postgres.enrichment import (
    Failure,
    FoundFact,
    UnreadEpisode,
    due_episodes,
    mark_failed,
    refused_episodes,
    take_unenriched,
    write_facts,
)
from memory_pipeline.stores.postgres.plugins import refuse_tenants

BATCH_EPISODES = 2_000


class EnrichReport(msgspec.Struct):
    """What one enrichment did."""

    messages: int = 0
    facts_written: int = 0
    facts_withdrawn: int = 0
    failed: int = 0
    held: int = 0
    """Named memories left for later because another run holds what they need."""
    refused_tenants: list[UUID] = msgspec.field(default_factory=list)
    """Tenants with unread messages who do not permit the enricher."""
    seconds: float = 0.0


def enrich(
    database: Database,
    enricher: Enricher,
    selection: Selection,
    *,
    plugin: str,
    progress: Progress = no_progress,
    batch_episodes: int = BATCH_EPISODES,
    fail_fast: bool = False,
) -> EnrichReport:
    """Read every message of the selection that this version of the enricher has not read. One transaction a batch.

    Messages of tenants for whom `plugin` (the enricher's name in the plugin registry) may not run stay pending.
    Raises ProviderUnavailableError where the enricher can't be used; what it had not read stays pending. With
    `fail_fast` whatever the enricher raises at a message is raised here, and nothing goes to the dead letters.
    """
    report = EnrichReport()
    started = time.monotonic()
    name = f"{enricher.name}@{enricher.version}"

    def find_refused(connection: Connection, barred: list[UUID]) -> list[UUID]:
        return refused_episodes(connection, selection, name, plugin, barred)

    def read_page(connection: Connection, after: DueMemory, limit: int) -> list[DueMemory]:
        return due_episodes(connection, selection, name, plugin, after, limit)

    report.refused_tenants = refuse_tenants(database, "enrich", plugin, selection, find_refused)
    for batch in due_batches(database, read_page, selection, batch_episodes):
        try:
            with batch_transaction(database, selection) as connection:
                episodes = take_unenriched(connection, name, plugin, batch)
                if not episodes:  # another run has read them, or holds them
                    continue
                read, facts, failures = _read(enricher, episodes, fail_fast=fail_fast)
                written, withdrawn = write_facts(connection, name, read, facts)
                if failures:
                    mark_failed(connection, failures)
        except BusyError:
            report.held += len(batch)
            continue
        report.messages += len(read)
        report.facts_written += written
        report.facts_withdrawn += withdrawn
        report.failed += len(failures)
        progress(len(episodes))
    report.seconds = time.monotonic() - started
    return report


def _read(
    enricher: Enricher, episodes: list[UnreadEpisode], *, fail_fast: bool
) -> tuple[list[UnreadEpisode], list[FoundFact], list[Failure]]:
    read: list[UnreadEpisode] = []
    facts: list[FoundFact] = []
    failures: list[Failure] = []
    for episode in episodes:
        try:
            found = [_fact(episode, enricher.name, draft) for draft in enricher.enrich(_turn(episode))]
        except ProviderUnavailableError:
            raise
        except Exception as error:  # a plugin may raise anything; the record keeps the reason
            if fail_fast:
                error.add_note(f"memory {episode.memory_id} of tenant {episode.tenant_id} (MEMORY_FAIL_FAST)")
                raise
            failures.append(Failure.of(episode.tenant_id, episode.memory_id, error))
            continue
        read.append(episode)
        facts.extend({fact.memory_id: fact for fact in found}.values())
    return read, facts, failures


def _turn(episode: UnreadEpisode) -> Turn:
    return Turn(
        message_id=episode.message_id,
        conversation_id=episode.conversation_id,
        role=Role(episode.role),
        speaker=episode.speaker,
        content=episode.content,
        sent_at=episode.sent_at,
    )


def _fact(episode: UnreadEpisode, enricher: str, draft: FactDraft) -> FoundFact:
    """Return the row of a fact. Raises ProviderError where Postgres would refuse it, and the whole batch with it."""
    texts = {"subject": draft.subject, "predicate": draft.predicate, "object": draft.object}
    for name, text in {**texts, "statement": draft.statement, "slot": draft.slot or "none"}.items():
        problem = check_text(name, text)
        if problem is not None or not text:
            reason = problem.reason if problem else f"the {name} is empty"
            raise ProviderError(f"Enricher {enricher} answered with a fact that can't be stored: {reason}.")
    if not 0 <= draft.confidence <= 1:
        raise ProviderError(f"Enricher {enricher} answered with confidence {draft.confidence}, which is not in 0 to 1.")
    for moment in (draft.valid_from, draft.valid_to):
        if moment is not None and moment.utcoffset() is None:
            raise ProviderError(f"Enricher {enricher} answered with the time {moment}, which has no time zone.")
    if draft.valid_to is not None and draft.valid_to < draft.valid_from:
        raise ProviderError(
            f"Enricher {enricher} answered with a fact that ends before it begins: from {draft.valid_from} "
            f"to {draft.valid_to}."
        )
    return FoundFact(
        tenant_id=episode.tenant_id,
        memory_id=ids.fact_id(
            episode.message_id, enricher, draft.subject, draft.predicate, draft.object, draft.negated, draft.slot
        ),
        user_id=episode.user_id,
        conversation_id=episode.conversation_id,
        message_id=episode.message_id,
        day=episode.day,
        project=episode.project,
        content=draft.statement,
        subject=draft.subject,
        predicate=draft.predicate,
        object=draft.object,
        negated=draft.negated,
        slot=draft.slot,
        confidence=draft.confidence,
        valid_from=draft.valid_from,
        stated_valid_to=draft.valid_to,
    )
