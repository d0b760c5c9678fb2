"""Taking messages in: what is there when an import fails half way, and what it tells on its way."""

from __future__ import annotations

from collections.abc import Iterator

import psycopg
import pytest

from memory_pipeline.model.errors import MemoryPipelineError, StoreUnavailableError
from memory_pipeline.model.records import IncomingMessage
from memory_pipeline.serving.ingest import UserDirectory, ingest
from memory_pipeline_tests.serving.ingest.support import USER, Intake, counts, talk


def test_a_writer_that_fails_leaves_whole_batches_and_its_error_surfaces(lone_intake: Intake) -> None:
    with psycopg.connect(lone_intake.urls.admin_url, options="-c search_path=memory") as connection:
        connection.execute(
            "CREATE FUNCTION fail() RETURNS trigger LANGUAGE plpgsql AS"
            " $$BEGIN IF NEW.content LIKE '%turn 33' THEN RAISE EXCEPTION 'disk full' USING ERRCODE = 'disk_full';"
            " END IF; RETURN NEW; END$$"
        )
        connection.execute("CREATE TRIGGER fail BEFORE INSERT ON memories FOR EACH ROW EXECUTE FUNCTION fail()")
    with pytest.raises(StoreUnavailableError, match="disk full"):
        lone_intake.take(talk(100), batch_messages=10)
    stored = {int(name.removeprefix("c1-")) for name in lone_intake.contents()}
    assert stored >= set(range(20))
    assert not stored & set(range(30, 40))
    assert all(set(range(n - n % 10, n - n % 10 + 10)) <= stored for n in stored)
    assert len(lone_intake.read("SELECT FROM memories")) == len(stored)
    assert lone_intake.read("SELECT sum((detail ->> 'messages')::int) FROM events") == [(len(stored),)]

    with psycopg.connect(lone_intake.urls.admin_url, options="-c search_path=memory") as connection:
        connection.execute("DROP TRIGGER fail ON memories")
    assert counts(lone_intake.take(talk(100), batch_messages=10)[0]) == (100 - len(stored), len(stored), 0)
    assert len(lone_intake.contents()) == 100


def test_an_importer_that_fails_leaves_whole_batches_and_its_error_surfaces(intake: Intake) -> None:
    def broken() -> Iterator[IncomingMessage]:
        yield from talk(25)
        raise MemoryPipelineError("the file ends in the middle of a record.")

    with pytest.raises(MemoryPipelineError, match="in the middle of a record"):
        intake.take(broken(), batch_messages=10)
    assert len(intake.contents()) == 20
    assert counts(intake.take(talk(25))[0]) == (5, 20, 0)


def test_progress_is_told_after_every_batch(intake: Intake) -> None:
    seen: list[int] = []
    tenant_id = intake.tenant()
    ingest(
        intake.app,
        tenant_id,
        UserDirectory(intake.app, tenant_id, USER),
        talk(25),
        actor="test",
        on_reject=lambda rejection: pytest.fail(f"{rejection}"),
        on_batch=lambda report: seen.append(report.seen),
        batch_messages=10,
    )
    assert seen == [10, 20, 25]
