"""Buffered writes that were refused at their replay: kept, written by a worker once they may be, then forgotten."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from uuid import UUID

import psycopg
import pytest

from memory_pipeline.model.jobs import JobKey, RetryPolicy
from memory_pipeline.settings import Settings
from memory_pipeline.stages.pipeline import Pipeline
from memory_pipeline.stores.postgres.job_reports import database_now, retry_dead
from memory_pipeline.stores.postgres.jobs import Failure, claim_next, fail, finish, reclaim_expired
from memory_pipeline.stores.redis.manager import RedisManager
from memory_pipeline.worker.handlers import stage_handlers
from memory_pipeline.worker.outcomes import Done, Failed, Outcome, work_through
from memory_pipeline_tests.api.support import Json, Person, TestIssuer, message
from memory_pipeline_tests.api.test_outage import CONVERSATIONS, Outage, outages
from memory_pipeline_tests.local.inspect import until

ONE_TRY = RetryPolicy(max_attempts=1, backoff_seconds=0)
TWO_TRIES = RetryPolicy(max_attempts=2, backoff_seconds=0)


class Refused:
    """An API with a user of a tenant that was suspended while Postgres was away."""

    def __init__(self, outage: Outage, pipeline: Pipeline, redis: RedisManager) -> None:
        self.outage = outage
        self.pipeline = pipeline
        self.ana = outage.api.person()
        self._handlers = stage_handlers(pipeline, redis, lambda _stage, _seconds: None)
        answer = outage.post(self.ana, message("before", id="m0"))
        assert answer.status_code == 200, answer.text
        self.conversation_id = answer.json()["messages"][0]["conversation_id"]

    def refuse(self, *messages: Json) -> UUID:
        """Have messages buffered, and refused when Postgres is back; return their correlation id."""
        before = len(self.dead())
        self.outage.begin()
        self.tenant("suspended")
        answer = self.outage.post(self.ana, *messages)
        assert answer.status_code == 202, answer.text
        self.outage.end()
        until(self.outage.replayed, "the buffer is replayed")
        until(lambda: len(self.dead()) == before + 1, "the request is among the dead jobs")
        return UUID(answer.json()["correlation_id"])

    def tenant(self, status: str) -> None:
        self.outage.api.execute("UPDATE tenants SET status = %s", status)

    def activate(self) -> None:
        self.tenant("active")
        # As `tenants activate` does: the API is not to answer from what it remembers.
        self.outage.api.services.redis.drop_values(f"auth:{self.ana.user_id}")
        # The replayer and requests have pools of their own, which notice one after the other that Postgres is back.
        until(
            lambda: self.outage.api.client.get(CONVERSATIONS, headers=self.ana.headers).status_code == 200,
            "requests reach Postgres again",
        )

    def dead(self) -> list[tuple[Any, ...]]:
        return self.outage.api.rows(
            "SELECT job_id, error_class, error_text, payload FROM memory_jobs WHERE state = 'dead'"
        )

    def ledger(self) -> str:
        """Everything that the ledger says of replayed writes."""
        return json.dumps(
            self.outage.api.rows("SELECT row_to_json(j) FROM memory_jobs j WHERE job_type = 'replay_write'")
        )

    def retry(self) -> list[JobKey]:
        with self.pipeline.database.transaction() as connection:
            return retry_dead(connection, died_before=database_now(connection), limit=100, job_types=["replay_write"])

    def work(self, *, settled: bool = True) -> list[Outcome]:
        """Work on what is due, as a worker does; one that dies before it settles, where not `settled`."""
        with self.pipeline.database.transaction() as connection:
            jobs = claim_next(connection, "test", ["replay_write"], 100, 20)
        outcomes = work_through(self._handlers.by_type["replay_write"], jobs, lambda: False)
        if not settled:
            return outcomes
        with self.pipeline.database.transaction() as connection:
            finish(connection, [job for job, outcome in zip(jobs, outcomes, strict=True) if isinstance(outcome, Done)])
            failures = [
                Failure(claim=job, error_class=outcome.error_class, error_text=outcome.error_text, retry=outcome.retry)
                for job, outcome in zip(jobs, outcomes, strict=True)
                if isinstance(outcome, Failed)
            ]
            if failures:
                fail(connection, failures, ONE_TRY)
        return outcomes


@pytest.fixture
def issuer(tmp_path: Path) -> TestIssuer:
    return TestIssuer(tmp_path)


@pytest.fixture
def refused(settings: Settings, issuer: TestIssuer) -> Iterator[Refused]:
    with (
        outages(settings, issuer) as outage,
        Pipeline(settings) as pipeline,
        RedisManager(str(settings.redis_url)) as redis,
    ):
        yield Refused(outage, pipeline, redis)


def contents(refused: Refused) -> list[str]:
    answer = refused.outage.read(refused.ana, refused.conversation_id)
    assert answer.status_code == 200, answer.text
    return [turn["content"] for turn in answer.json()["messages"]]


def test_a_refused_write_is_kept_and_written_once_it_may_be_and_its_text_leaves_the_ledger(refused: Refused) -> None:
    correlation_id = refused.refuse(message("kept words", id="m1"), message("more words", id="m2"))
    ((job_id, error_class, error_text, payload),) = refused.dead()
    assert error_class == "ForbiddenError"
    assert "suspended" in error_text
    assert [each["content"] for each in payload["messages"]] == ["kept words", "more words"]
    assert refused.outage.stored() == ["before"]
    assert refused.work() == [], "nothing happens by itself"

    refused.activate()
    assert [key.job_id for key in refused.retry()] == [job_id]
    assert refused.work() == [Done()]
    assert contents(refused) == ["before", "kept words", "more words"]
    assert refused.dead() == []
    assert "words" not in refused.ledger()
    assert refused.outage.api.rows(
        "SELECT state, payload, correlation_id FROM memory_jobs WHERE job_type = 'replay_write'"
    ) == [("completed", {"messages": 2}, correlation_id)]
    # Their memories are asked for as those of any other message are, under the id their sender was told.
    assert refused.outage.api.rows(
        "SELECT count(*) FROM memory_jobs WHERE job_type = 'enrich_and_embed' AND correlation_id = %s", correlation_id
    ) == [(2,)]
    again = refused.outage.post(refused.ana, message("kept words", id="m1"))
    assert (again.status_code, again.json()["messages"][0]["message_id"] is None) == (200, False)
    assert refused.outage.stored() == ["before", "kept words", "more words"]


def test_a_write_whose_worker_dies_before_it_can_say_so_is_done_when_it_comes_again(refused: Refused) -> None:
    refused.refuse(message("kept words", id="m1"))
    refused.activate()
    refused.retry()
    refused.outage.api.execute("DELETE FROM memory_jobs WHERE job_type <> 'replay_write'")
    assert refused.work(settled=False) == [Done()]
    assert "words" not in refused.ledger()
    refused.outage.api.execute("UPDATE memory_jobs SET lease_until = now() - interval '1 s' WHERE state = 'processing'")
    with refused.pipeline.database.transaction() as connection:
        assert [job.state for job in reclaim_expired(connection, TWO_TRIES)] == ["failed"]
    assert refused.work() == [Done()]
    assert refused.dead() == []
    assert refused.outage.stored() == ["before", "kept words"]


def test_a_row_of_one_tenant_never_writes_what_its_payload_says_of_another(refused: Refused) -> None:
    refused.refuse(message("kept words", id="m1"))
    refused.activate()
    refused.outage.api.execute(
        "INSERT INTO tenants (tenant_id, slug, name) VALUES ('11111111-1111-4111-8111-111111111111', 'evil', 'Evil')"
    )
    copied = (
        "INSERT INTO memory_jobs (tenant_id, job_id, job_type, day, payload, correlation_id)"
        " SELECT %s, {}, 'replay_write', day, {}, correlation_id FROM memory_jobs"
        " WHERE state = 'dead' AND error_class = 'ForbiddenError'"
    )
    packed = "jsonb_build_object('base64', translate(encode(convert_to(payload::text, 'UTF8'), 'base64'), E'\\n', ''))"
    evil = "11111111-1111-4111-8111-111111111111"
    with pytest.raises(psycopg.errors.CheckViolation):
        refused.outage.api.execute(copied.format("job_id", "payload"), evil)
    # What Postgres can't look into, the worker does.
    refused.outage.api.execute(copied.format("job_id", packed), evil)
    (outcome,) = refused.work()
    assert isinstance(outcome, Failed)
    assert (outcome.error_class, outcome.retry) == ("WrongTenant", False)
    refused.outage.api.execute(copied.format("uuidv7()", packed), refused.ana.tenant_id)
    (outcome,) = refused.work()
    assert isinstance(outcome, Failed)
    assert outcome.error_class == "WrongTenant"
    assert refused.outage.stored() == ["before"]


def test_a_write_that_is_refused_again_is_dead_again_with_the_reason_of_now(refused: Refused) -> None:
    refused.refuse(message("kept words", id="m1"))
    refused.activate()
    refused.outage.api.execute("UPDATE users SET status = 'disabled'")
    refused.retry()
    (outcome,) = refused.work()
    assert isinstance(outcome, Failed)
    ((_job_id, error_class, error_text, payload),) = refused.dead()
    assert error_class == "ForbiddenError"
    assert "disabled" in error_text
    assert payload["messages"][0]["content"] == "kept words"
    refused.outage.api.execute("UPDATE users SET status = 'active'")
    refused.retry()
    assert refused.work() == [Done()]
    assert refused.outage.stored() == ["before", "kept words"]


def test_a_write_whose_message_id_was_taken_meanwhile_is_dead_again(refused: Refused) -> None:
    refused.refuse(message("kept words", id="m1"))
    refused.activate()
    assert refused.outage.post(refused.ana, message("other words", id="m1")).status_code == 200
    refused.retry()
    refused.work()
    ((_job_id, error_class, error_text, _payload),) = refused.dead()
    assert (error_class, "'m1'" in error_text) == ("ConflictError", True)
    assert refused.outage.stored() == ["before", "other words"]


def test_one_write_that_is_refused_again_does_not_hold_up_its_neighbours(refused: Refused) -> None:
    refused.refuse(message("one", id="m1"))
    refused.refuse(message("two", id="m2"))
    refused.activate()
    assert refused.outage.post(refused.ana, message("other", id="m1")).status_code == 200
    refused.retry()
    assert sorted(type(outcome).__name__ for outcome in refused.work()) == ["Done", "Failed"]
    assert refused.outage.stored() == ["before", "other", "two"]


def delete(refused: Refused) -> None:
    answer = refused.outage.api.client.delete(f"{CONVERSATIONS}/{refused.conversation_id}", headers=refused.ana.headers)
    assert answer.status_code == 200, answer.text


def dead(refused: Refused) -> None:
    assert len(refused.dead()) == 1


def to_be_retried(refused: Refused) -> None:
    assert len(refused.retry()) == 1


@pytest.mark.parametrize("waits", [dead, to_be_retried])
def test_a_refused_write_goes_with_its_conversation(refused: Refused, waits: Callable[[Refused], None]) -> None:
    refused.refuse(message("kept words", id="m1"))
    refused.activate()
    waits(refused)
    delete(refused)
    assert "words" not in refused.ledger()
    refused.retry()
    assert refused.work() == []
    assert refused.outage.stored() == []


@pytest.mark.parametrize("waits", [dead, to_be_retried])
def test_of_a_refused_write_to_several_conversations_only_what_is_deleted_goes(
    refused: Refused, waits: Callable[[Refused], None]
) -> None:
    correlation_id = refused.refuse(
        message("first elsewhere", id="m1", conversation_id="c2"),
        message("deleted words", id="m2"),
        message("second elsewhere", id="m3", conversation_id="c2"),
    )
    refused.activate()
    waits(refused)
    delete(refused)
    assert "deleted words" not in refused.ledger()
    refused.retry()
    assert refused.work() == [Done()]
    assert refused.outage.stored() == ["first elsewhere", "second elsewhere"]
    assert refused.outage.api.rows(
        "SELECT payload, correlation_id FROM memory_jobs WHERE job_type = 'replay_write' AND state = 'completed'"
    ) == [({"messages": 2}, correlation_id)]


def test_a_refused_write_of_another_user_to_a_conversation_of_the_same_name_stays(refused: Refused) -> None:
    ben: Person = refused.outage.api.person(email="ben@example.org")
    assert refused.outage.post(ben, message("his", id="m0")).status_code == 200
    refused.refuse(message("kept words", id="m1"))
    refused.activate()
    listed = refused.outage.api.client.get(CONVERSATIONS, headers=ben.headers).json()["conversations"]
    path = f"{CONVERSATIONS}/{listed[0]['conversation_id']}"
    assert refused.outage.api.client.delete(path, headers=ben.headers).status_code == 200
    refused.retry()
    assert refused.work() == [Done()]
    assert refused.outage.stored() == ["before", "kept words"]
