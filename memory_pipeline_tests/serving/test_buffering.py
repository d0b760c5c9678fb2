"""Replay of the write buffer: in order, once each, nothing lost, and whoever may no longer write is refused."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import LiteralString
from uuid import UUID, uuid4

import pytest
from structlog.testing import capture_logs

from memory_pipeline import metrics
from memory_pipeline.model.errors import BusyError, InvalidRequestError, StoreUnavailableError
from memory_pipeline.model.records import BufferedWrite
from memory_pipeline.serving import buffering
from memory_pipeline.serving.buffering import ReplayReport, replay, report_lost
from memory_pipeline.stores.postgres.replays import record_refused, refused_write, try_replay_lock
from memory_pipeline.stores.redis.buffer import WriteBuffer
from memory_pipeline.stores.redis.manager import RedisManager
from memory_pipeline_tests.conftest import Database as Urls
from memory_pipeline_tests.serving.buffered_writes import (
    Ingest,
    Person,
    World,
    link_person,
    opened_world,
    request,
    requests,
    rows,
    stored_names,
)


@pytest.fixture
def world(database: Urls, redis_url: str) -> Iterator[World]:
    with opened_world(database, redis_url) as world:
        yield world


def failing(error: Exception, entry: BufferedWrite, write: Ingest) -> Callable[[BufferedWrite], int]:
    """A write that fails for one request, before anything is stored."""

    def fail(asked: BufferedWrite) -> int:
        if asked.entry_id == entry.entry_id:
            raise error
        return write(asked)

    return fail


# -- order, and once each --


def test_requests_are_written_in_order_once_each(world: World) -> None:
    added = requests(world.ana, 120)
    for entry in added:
        world.buffer.add(entry)
    report = world.replay()
    assert report == ReplayReport(entries=120, inserted=120)
    assert world.write.asked == [entry.entry_id for entry in added]
    assert stored_names(world.urls.admin_url) == [f"m{place:05d}" for place in range(120)]
    assert world.buffer.stats().entries == 0
    assert sorted(world.jobs()) == sorted((entry.entry_id, "completed") for entry in added)


def test_a_replay_of_an_empty_buffer_does_nothing(world: World) -> None:
    assert world.replay() == ReplayReport()


def test_what_is_in_postgres_already_is_counted_as_a_duplicate(world: World) -> None:
    world.write(request(world.ana, "a", "b"))
    world.buffer.add(request(world.ana, "a", "b", "c"))
    assert world.replay() == ReplayReport(entries=1, inserted=1, duplicates=2)


def test_replays_are_counted_by_outcome(world: World) -> None:
    def counts() -> dict[str, float]:
        names = ("inserted", "duplicate", "refused")
        return {name: metrics.redis_buffer_replays.labels(name)._value.get() for name in names}

    before = counts()
    world.write(request(world.ana, "a"))
    world.buffer.add(request(world.ana, "a", "b", "c"))
    world.buffer.add(request(world.ana, "a", content="other"))
    world.replay()
    gained = {name: count - before[name] for name, count in counts().items()}
    assert gained == {"inserted": 2, "duplicate": 1, "refused": 1}


def test_while_one_process_replays_another_leaves_the_buffer_alone(world: World) -> None:
    entry = request(world.ana, "a")
    world.buffer.add(entry)
    with world.pipeline.transaction() as connection:
        assert try_replay_lock(connection)
        assert world.replay() == ReplayReport(locked_out=True)
    assert world.buffer.head(1) == [entry]
    assert world.replay().entries == 1


def test_two_replayers_at_once_write_each_request_once_and_in_order(world: World) -> None:
    added = requests(world.ana, 120)
    for entry in added:
        world.buffer.add(entry)
    with RedisManager(world.redis_url) as other_manager, ThreadPoolExecutor(2) as pool:
        other = WriteBuffer(other_manager, 10_000, 100_000_000)

        def drain(buffer: WriteBuffer) -> int:
            entries = 0
            while buffer.stats().entries:
                entries += replay(buffer, world.pipeline, world.write).entries
            return entries

        assert sum(pool.map(drain, [world.buffer, other])) >= 120
    assert world.write.asked == [entry.entry_id for entry in added]
    assert stored_names(world.urls.admin_url) == [f"m{place:05d}" for place in range(120)]


def test_a_request_whose_removal_was_lost_is_not_written_again(world: World) -> None:
    entry = request(world.ana, "a")
    world.buffer.add(entry)
    world.replay()
    world.change("DELETE FROM memories")
    world.change("DELETE FROM messages")  # the user deletes what they said
    world.buffer.add(entry)  # as if the process had died before it removed the entry
    assert world.replay() == ReplayReport(entries=1, duplicates=1)
    assert len(world.write.asked) == 1
    assert stored_names(world.urls.admin_url) == []
    assert world.buffer.stats().entries == 0


# -- a store goes away --


@pytest.mark.parametrize("error", [StoreUnavailableError("away"), BusyError("taken")])
def test_when_postgres_goes_away_again_the_rest_stays_in_order(world: World, error: Exception) -> None:
    added = requests(world.ana, 5)
    for entry in added:
        world.buffer.add(entry)
    report = replay(world.buffer, world.pipeline, failing(error, added[2], world.write))
    assert (report.entries, report.inserted, report.stopped) == (2, 2, str(error))
    assert world.buffer.head(10) == added[2:]
    assert world.replay().inserted == 3
    assert stored_names(world.urls.admin_url) == [f"m{place:05d}" for place in range(5)]


def test_a_replay_that_is_told_to_stop_keeps_the_rest(world: World) -> None:
    added = requests(world.ana, 5)
    for entry in added:
        world.buffer.add(entry)
    report = world.replay(stopping=lambda: len(world.write.asked) == 2)
    assert report.entries == 2
    assert world.buffer.head(10) == added[2:]


# -- refusals --


def refusal_of(world: World, entry: BufferedWrite) -> tuple[str, str, BufferedWrite]:
    """Error class, error text and request of the one dead job; there must be its event."""
    [(tenant_id, job_id, state, error_class, error_text, payload, correlation_id, user_id)] = rows(
        world.urls.admin_url,
        "SELECT tenant_id, job_id, state, error_class, error_text, payload, correlation_id, user_id FROM memory_jobs"
        " WHERE state <> 'completed'",
    )
    assert (tenant_id, job_id, state) == (entry.tenant_id, entry.entry_id, "dead")
    assert (correlation_id, user_id) == (entry.correlation_id, entry.user_id)
    detail = {"error_class": error_class, "messages": len(entry.messages)}
    assert world.events("buffered_write_refused") == [(tenant_id, job_id, correlation_id, detail)]
    return error_class, error_text, refused_write(payload)


@pytest.mark.parametrize(
    ("statement", "reason"),
    [
        ("UPDATE tenants SET status = 'suspended'", "tenant .* is suspended"),
        ("UPDATE users SET status = 'disabled'", "user .* is disabled"),
        ("UPDATE identities SET state = 'revoked'", "subject .* is revoked"),
    ],
)
def test_who_may_no_longer_write_is_refused_and_kept_as_a_dead_job(
    world: World, statement: LiteralString, reason: str
) -> None:
    entry = request(world.ana, "a", "b")
    world.buffer.add(entry)
    world.change(statement)
    assert world.replay() == ReplayReport(entries=1, refused=2)
    error_class, error_text, kept = refusal_of(world, entry)
    assert error_class == "ForbiddenError"
    assert re.search(reason, error_text)
    assert kept == entry
    assert world.write.asked == []
    assert world.buffer.stats().entries == 0


def test_an_identity_that_is_another_users_now_is_refused(world: World) -> None:
    entry = request(world.ana, "a")
    world.buffer.add(entry)
    link_person(world.pipeline, name="bob")
    world.change("UPDATE identities SET state = 'revoked' WHERE subject = %s", world.ana.subject)
    world.change(
        "UPDATE identities SET state = 'linked', user_id = (SELECT user_id FROM users WHERE email LIKE 'bob%%')"
        " WHERE subject = %s",
        world.ana.subject,
    )
    assert world.replay().refused == 1
    assert "does not exist as user" in refusal_of(world, entry)[1]


def test_one_users_refusal_does_not_keep_others_back(world: World) -> None:
    bob, eve = link_person(world.pipeline, name="bob"), link_person(world.pipeline, "other", "eve")
    world.change("UPDATE users SET status = 'disabled' WHERE user_id = %s", bob.user_id)
    entries = [request(world.ana, "a"), request(bob, "b"), request(eve, "e"), request(world.ana, "z")]
    for entry in entries:
        world.buffer.add(entry)
    assert world.replay() == ReplayReport(entries=4, inserted=3, refused=1)
    assert refusal_of(world, entries[1])[2] == entries[1]
    assert stored_names(world.urls.admin_url) == ["a", "e", "z"]


def test_a_message_id_that_was_taken_meanwhile_is_refused_with_its_whole_request(world: World) -> None:
    world.write(request(world.ana, "a"))
    entry, after = request(world.ana, "a", content="other"), request(world.ana, "b")
    world.buffer.add(entry)
    world.buffer.add(after)
    assert world.replay() == ReplayReport(entries=2, inserted=1, refused=1)
    error_class, _text, kept = refusal_of(world, entry)
    assert (error_class, kept) == ("ConflictError", entry)


def test_a_refusal_that_was_recorded_is_recorded_once_though_its_removal_was_lost(world: World) -> None:
    entry = request(world.ana, "a")
    world.buffer.add(entry)
    world.change("UPDATE tenants SET status = 'suspended'")
    world.replay()
    world.change("UPDATE tenants SET status = 'active'")
    world.buffer.add(entry)
    world.replay()
    refusal_of(world, entry)  # one job, one event
    assert world.write.asked == []


def test_the_same_refusal_recorded_twice_is_one_job_and_one_event(world: World) -> None:
    entry = request(world.ana, "a")
    for _replayer in range(2):
        with world.pipeline.transaction() as connection:
            record_refused(connection, entry, "ConflictError", "taken")
    assert refusal_of(world, entry) == ("ConflictError", "taken", entry)


def test_a_refused_request_that_jsonb_cannot_hold_is_kept_all_the_same(world: World) -> None:
    entry = request(world.ana, "a", content="nul \0 inside")
    world.buffer.add(entry)
    report = replay(world.buffer, world.pipeline, failing(InvalidRequestError("nul \0 refused"), entry, world.write))
    assert report.refused == 1
    error_class, error_text, kept = refusal_of(world, entry)
    assert (error_class, error_text, kept) == ("InvalidRequestError", "nul \N{REPLACEMENT CHARACTER} refused", entry)


def test_a_request_of_a_tenant_that_postgres_does_not_know_is_set_aside_in_redis(world: World) -> None:
    stray = request(Person(uuid4(), uuid4(), "x@x.example", "x"), "x")
    after = request(world.ana, "a")
    world.buffer.add(stray)
    world.buffer.add(after)
    with capture_logs() as logs:
        assert world.replay() == ReplayReport(entries=1, inserted=1, set_aside=1)
    assert [line["event"] for line in logs if line["log_level"] == "error"] == ["buffered_write_set_aside"]
    assert world.buffer.stats().set_aside == 1
    assert report_lost(world.buffer, world.pipeline) == 0


def test_an_unforeseen_failure_is_tried_again_and_at_last_refused(world: World) -> None:
    first, bad, last = requests(world.ana, 3)
    for entry in (first, bad, last):
        world.buffer.add(entry)
    failures: Counter[UUID] = Counter()
    broken = failing(ZeroDivisionError("a bug that quotes a secret"), bad, world.write)
    with capture_logs() as logs:
        for _try in range(buffering.TRIES - 1):
            assert replay(world.buffer, world.pipeline, broken, failures=failures).stopped
            assert world.buffer.head(10) == [bad, last]
        report = replay(world.buffer, world.pipeline, broken, failures=failures)
    assert (report.refused, report.inserted, report.stopped) == (1, 1, None)
    assert refusal_of(world, bad)[::2] == ("ZeroDivisionError", bad)
    assert failures == Counter()
    assert "secret" not in str(logs)


def test_an_unforeseen_failure_that_passes_refuses_nothing(world: World) -> None:
    entry = request(world.ana, "a")
    world.buffer.add(entry)
    failures: Counter[UUID] = Counter()
    assert replay(world.buffer, world.pipeline, failing(OSError("?"), entry, world.write), failures=failures).stopped
    assert world.replay(failures=failures) == ReplayReport(entries=1, inserted=1)
    assert world.jobs() == [(entry.entry_id, "completed")]
