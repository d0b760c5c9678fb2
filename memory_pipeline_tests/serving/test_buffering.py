"""Replay of the write buffer: in order, once each, nothing lost, and whoever may no longer write is refused."""

from __future__ import annotations

import re
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from datetime import UTC, datetime
from typing import Any, LiteralString, NamedTuple
from uuid import UUID, uuid4

import msgspec
import pytest
import redis
from structlog.testing import capture_logs

from memory_pipeline import metrics
from memory_pipeline.model.errors import BusyError, InvalidRequestError, StoreUnavailableError
from memory_pipeline.model.records import BufferedWrite
from memory_pipeline.model.validation import Limits
from memory_pipeline.serving import buffering
from memory_pipeline.serving.buffering import ReplayReport, accept_write, replay, report_lost
from memory_pipeline.serving.replayer import Replayer
from memory_pipeline.stores.postgres.database import Database
from memory_pipeline.stores.postgres.replays import record_refused, refused_write, try_replay_lock
from memory_pipeline.stores.redis.buffer import WriteBuffer
from memory_pipeline.stores.redis.manager import RedisManager
from memory_pipeline_tests.conftest import Database as Urls
from memory_pipeline_tests.serving.buffered_writes import (
    ISSUER,
    START,
    Ingest,
    Person,
    link_person,
    request,
    requests,
    rows,
    stored_names,
)


class World(NamedTuple):
    """A database with one linked user, an empty buffer, and the ingest that replays write with."""

    urls: Urls
    redis_url: str
    manager: RedisManager
    pipeline: Database
    app: Database
    ana: Person
    buffer: WriteBuffer
    write: Ingest

    def replay(self, **options: Any) -> ReplayReport:
        return replay(self.buffer, self.pipeline, self.write, **options)

    def jobs(self) -> list[tuple[UUID, str]]:
        found = rows(self.urls.admin_url, "SELECT job_id, state FROM memory_jobs WHERE job_type = 'replay_write'")
        return [(job_id, state) for job_id, state in found]

    def events(self, kind: str) -> list[tuple[UUID, UUID | None, UUID, dict[str, Any]]]:
        return list(
            rows(
                self.urls.admin_url,
                "SELECT tenant_id, subject_id, correlation_id, detail FROM events WHERE kind = %s",
                kind,
            )
        )

    def change(self, statement: LiteralString, *parameters: object) -> None:
        with self.pipeline.transaction() as connection:
            connection.execute(statement, parameters)

    def flush(self) -> None:
        with redis.Redis.from_url(self.redis_url) as client:
            client.flushdb()


@pytest.fixture
def world(database: Urls, redis_url: str) -> Iterator[World]:
    with ExitStack() as stack:
        pipeline = stack.enter_context(Database(database.pipeline_url, role="memory_pipeline"))
        app = stack.enter_context(Database(database.app_url, role="memory_app"))
        manager = stack.enter_context(RedisManager(redis_url))
        yield World(
            database,
            redis_url,
            manager,
            pipeline,
            app,
            link_person(pipeline),
            WriteBuffer(manager, 10_000, 100_000_000),
            Ingest(app),
        )


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


# -- checks before buffering --


def limits(max_message_bytes: int = 1000) -> Limits:
    return Limits.at(
        datetime.now(UTC), partition_start=datetime(2022, 1, 1, tzinfo=UTC).date(), max_message_bytes=max_message_bytes
    )


def test_a_message_over_the_limit_never_reaches_redis(world: World) -> None:
    large = request(world.ana, "small", "large", content="x" * 1200)
    with pytest.raises(InvalidRequestError, match="more than the 1,000 allowed"):
        accept_write(world.buffer, limits(), large)
    with redis.Redis.from_url(world.redis_url) as client:
        assert client.keys() == []


def test_a_message_within_the_limit_is_buffered(world: World) -> None:
    entry = request(world.ana, "a")
    accept_write(world.buffer, limits(), entry)
    assert world.buffer.head(1) == [entry]


# -- what Redis has lost --


def test_a_buffer_that_was_flushed_is_reported_by_tenant(world: World) -> None:
    eve = link_person(world.pipeline, "other", "eve")
    lost = [request(world.ana, "a", "b"), request(world.ana, "c"), request(eve, "d")]
    for entry in lost:
        world.buffer.add(entry)
    before = metrics.redis_buffer_lost._value.get()
    world.flush()
    with capture_logs() as logs:
        assert report_lost(world.buffer, world.pipeline) == 4
    assert metrics.redis_buffer_lost._value.get() - before == 4
    [line] = [line for line in logs if line["event"] == "buffered_writes_lost"]
    assert (line["log_level"], line["messages"], line["entries"], line["tenants"]) == ("error", 4, 3, 2)
    details = {tenant_id: detail for tenant_id, _subject, _correlation, detail in world.events("buffered_writes_lost")}
    assert details == {
        world.ana.tenant_id: {
            "entries": 2,
            "messages": 3,
            "correlation_ids": [str(entry.correlation_id) for entry in lost[:2]],
        },
        eve.tenant_id: {"entries": 1, "messages": 1, "correlation_ids": [str(lost[2].correlation_id)]},
    }
    assert report_lost(world.buffer, world.pipeline) == 0
    assert len(world.events("buffered_writes_lost")) == 2


def test_what_was_replayed_or_refused_by_another_process_is_not_lost(world: World) -> None:
    bob = link_person(world.pipeline, name="bob")
    world.change("UPDATE users SET status = 'disabled' WHERE user_id = %s", bob.user_id)
    for entry in (request(world.ana, "a"), request(bob, "b")):
        world.buffer.add(entry)
    with RedisManager(world.redis_url) as manager:
        replay(WriteBuffer(manager, 10, 10_000), world.pipeline, world.write)
    assert len(world.buffer.unsettled()) == 2
    assert report_lost(world.buffer, world.pipeline) == 0
    assert world.buffer.unsettled() == {}
    assert world.events("buffered_writes_lost") == []


def test_what_still_waits_in_the_buffer_is_not_lost(world: World) -> None:
    world.buffer.add(request(world.ana, "a"))
    assert report_lost(world.buffer, world.pipeline) == 0
    assert len(world.buffer.unsettled()) == 1


def test_each_process_reports_what_it_has_added_itself(world: World) -> None:
    with RedisManager(world.redis_url) as manager:
        other = WriteBuffer(manager, 10_000, 100_000_000)
        world.buffer.add(request(world.ana, "a"))
        other.add(request(world.ana, "b", "c"))
        world.flush()
        assert report_lost(world.buffer, world.pipeline) == 1
        assert report_lost(other, world.pipeline) == 2
    assert sorted(event[3]["messages"] for event in world.events("buffered_writes_lost")) == [1, 2]


def test_nothing_is_called_lost_while_redis_does_not_answer(world: World) -> None:
    world.buffer.add(request(world.ana, "a"))
    with RedisManager("redis://127.0.0.1:1") as away:
        blind = WriteBuffer(away, 10, 10_000)
        blind._remember(world.buffer.head(1)[0])
        with pytest.raises(StoreUnavailableError):
            report_lost(blind, world.pipeline)
        assert len(blind.unsettled()) == 1
    assert world.events("buffered_writes_lost") == []


# -- the thread --


def wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline, "did not happen within 20 s"
        time.sleep(0.01)


def test_the_thread_replays_by_itself_and_ends_when_told(world: World) -> None:
    replayer = Replayer(world.buffer, world.pipeline, world.write, interval=0.02)
    replayer.start()
    replayer.start()
    try:
        for entry in requests(world.ana, 20):
            world.buffer.add(entry)
        wait_for(lambda: not world.buffer.unsettled())
        assert len(stored_names(world.urls.admin_url)) == 20
        world.buffer.add(request(world.ana, "later"))
        wait_for(lambda: not world.buffer.unsettled())
    finally:
        replayer.stop()
    late = request(world.ana, "too late")
    world.buffer.add(late)
    replayer.stop()
    assert world.buffer.head(1) == [late]


def test_the_thread_wakes_when_told(world: World) -> None:
    replayer = Replayer(world.buffer, world.pipeline, world.write, interval=3600)
    replayer.start()
    try:
        world.buffer.add(request(world.ana, "a"))
        replayer.wake()
        wait_for(lambda: not world.buffer.unsettled())
    finally:
        replayer.stop()


def test_a_thread_whose_last_try_failed_is_not_woken_by_every_writer(world: World) -> None:
    tried: list[UUID] = []

    def write(entry: BufferedWrite) -> int:
        tried.append(entry.entry_id)
        raise StoreUnavailableError("away")

    replayer = Replayer(world.buffer, world.pipeline, write, interval=3600, max_pause=3600)
    replayer.start()
    try:
        for entry in requests(world.ana, 20):
            world.buffer.add(entry)
            replayer.wake()
        wait_for(lambda: bool(tried))
        for _waker in range(50):
            replayer.wake()
            time.sleep(0.002)
    finally:
        replayer.stop()
    assert len(tried) == 1


def test_the_thread_outlives_errors_and_says_each_once(world: World) -> None:
    calls: list[UUID] = []

    def write(entry: BufferedWrite) -> int:
        calls.append(entry.entry_id)
        if len(calls) <= 3:
            raise [StoreUnavailableError("away"), StoreUnavailableError("away"), KeyError("bug")][len(calls) - 1]
        return world.write(entry)

    replayer = Replayer(world.buffer, world.pipeline, write, interval=0.02, max_pause=0.05)
    world.buffer.add(request(world.ana, "a"))
    with capture_logs() as logs:
        replayer.start()
        try:
            wait_for(lambda: not world.buffer.unsettled())
        finally:
            replayer.stop()
    assert stored_names(world.urls.admin_url) == ["a"]
    waits = [line["problem"] for line in logs if line["event"] == "replay_waits"]
    assert waits[0] == "away"
    assert waits[1].endswith("failed with KeyError")
    assert len(waits) == 2


def test_the_thread_outlives_a_bug_of_its_own(world: World) -> None:
    class Broken(WriteBuffer):
        asked = 0

        def missing(self, entry_ids: Any) -> list[UUID]:
            Broken.asked += 1
            if Broken.asked < 3:
                raise RuntimeError("a bug")
            return super().missing(entry_ids)

    buffer = Broken(world.manager, 10, 10_000)
    replayer = Replayer(buffer, world.pipeline, world.write, interval=0.02, max_pause=0.05)
    buffer.add(request(world.ana, "a"))
    replayer.start()
    try:
        wait_for(lambda: not buffer.unsettled())
    finally:
        replayer.stop()
    assert Broken.asked >= 3


def test_a_process_that_ends_says_what_it_cannot_account_for_any_more(world: World) -> None:
    replayer = Replayer(world.buffer, world.pipeline, world.write, interval=3600)
    replayer.start()
    world.buffer.add(request(world.ana, "a", "b"))
    with capture_logs() as logs:
        replayer.stop()
    [line] = [line for line in logs if line["event"] == "buffered_writes_unsettled"]
    assert (line["entries"], line["messages"]) == (1, 2)


def test_a_request_is_the_same_after_its_way_through_redis(world: World) -> None:
    entry = msgspec.structs.replace(
        request(world.ana, "a"),
        messages=(
            msgspec.structs.replace(
                request(world.ana, "a").messages[0],
                content="Grüße \U0001f600 \\ \n\t\"' %s",
                raw_data={"a": [1, 2.5, None, True, {"b": "ü"}]},
                sent_at=START.replace(microsecond=123456),
                speaker="Ána",
                project="p",
                conversation_title="t",
            ),
        ),
        issuer=ISSUER,
    )
    world.buffer.add(entry)
    assert world.buffer.head(1) == [entry]
