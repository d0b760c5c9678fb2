"""Taking messages in: several imports at once."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from threading import Barrier
from uuid import UUID

import pytest

from memory_pipeline.model.records import IncomingMessage
from memory_pipeline.serving.ingest import IngestReport
from memory_pipeline.stores.postgres.database import Database
from memory_pipeline_tests.serving.ingest.support import START, Intake, counts, said, talk


def at_once(intake: Intake, tenant_id: UUID, *imports: Sequence[IncomingMessage], batch_messages: int) -> IngestReport:
    """Run imports at the same time, each on connections of its own; return the sum of their reports."""
    start = Barrier(len(imports))

    def run(messages: Sequence[IncomingMessage]) -> IngestReport:
        with Database(intake.urls.app_url) as app:
            own = Intake(intake.urls, app, intake.pipeline)
            start.wait(timeout=30)
            return own.take(messages, tenant_id, batch_messages=batch_messages)[0]

    with ThreadPoolExecutor(len(imports)) as pool:
        reports = [future.result() for future in [pool.submit(run, messages) for messages in imports]]
    return IngestReport(*(sum(values) for values in zip(*map(counts, reports), strict=True)))


@pytest.mark.parametrize("batch_messages", [7, 40])
def test_imports_of_the_same_messages_at_once_end_as_one_alone(intake: Intake, batch_messages: int) -> None:
    messages = [message for pair in zip(talk(60, "c1"), talk(60, "c2"), strict=True) for message in pair]
    alone = intake.tenant("alone")
    intake.take(messages, alone, batch_messages=batch_messages)
    together = intake.tenant("together")
    report = at_once(intake, together, messages, messages, messages, batch_messages=batch_messages)
    assert counts(report) == (120, 240, 0)
    assert intake.contents(together) == intake.contents(alone)
    assert len(intake.read("SELECT FROM memories", together)) == 120
    total = "SELECT sum((detail ->> 'messages')::int) FROM events"
    assert intake.read(total, together) == [(120,)]


def test_overlapping_imports_at_once_end_as_one_after_the_other(intake: Intake) -> None:
    first = [*talk(40, "c1"), *talk(40, "c2")]
    second = [*talk(40, "c2", first=20), *talk(40, "c1", first=20)]
    tenant_id = intake.tenant()
    report = at_once(intake, tenant_id, first, second[::-1], batch_messages=16)
    assert counts(report) == (120, 40, 0)
    assert len(intake.contents(tenant_id)) == 120
    before = intake.state(tenant_id)
    assert counts(intake.take([*first, *second], tenant_id)[0]) == (0, 160, 0)
    assert intake.state(tenant_id) == before


def test_imports_that_disagree_on_the_order_of_messages_do_not_fail_by_deadlock(intake: Intake) -> None:
    tenant_id = intake.tenant()
    intake.take(talk(1), tenant_id)  # the conversation is there, so nothing but messages makes the two wait

    def timed(step: int) -> list[IncomingMessage]:
        return [said(f"m{n}", f"turn {n}", sent_at=START + timedelta(hours=step * n)) for n in range(1000)]

    report = at_once(intake, tenant_id, timed(1), timed(-1), batch_messages=1000)
    assert counts(report) == (1000, 1000, 0)
    assert len(intake.contents(tenant_id)) == 1001
