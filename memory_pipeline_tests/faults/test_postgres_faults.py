"""Postgres goes away, hangs, comes back, and loses answers: what callers are told, when, and what is stored."""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from threading import Event
from uuid import UUID, uuid4

import psycopg
import pytest

from memory_pipeline.local.postgres import PostgresServer
from memory_pipeline.model.errors import BusyError, StoreUnavailableError
from memory_pipeline.model.records import Rejection
from memory_pipeline.serving.ingest import IngestReport, UserDirectory, ingest
from memory_pipeline.stores.postgres import connections
from memory_pipeline.stores.postgres.database import Database
from memory_pipeline.stores.postgres.migrate import migrate
from memory_pipeline.stores.postgres.tenants import ensure_tenant
from memory_pipeline_tests.conftest import Database as Urls
from memory_pipeline_tests.faults.messages import message
from memory_pipeline_tests.faults.proxy import TcpProxy
from memory_pipeline_tests.local.inspect import until

NEVER_SECONDS = 600.0
"""A wait that no test would sit out."""
NOTICED_SECONDS = 30.0
"""Within this a server that has stopped answering must have been noticed."""


@pytest.fixture
def proxy(database: Urls) -> Iterator[TcpProxy]:
    with TcpProxy(database.pipeline_url) as proxy:
        yield proxy


@pytest.fixture
def through(proxy: TcpProxy) -> Iterator[Database]:
    with Database(proxy.url, wait_seconds=NEVER_SECONDS) as opened:
        yield opened


@pytest.fixture
def short_silence(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have connections ask after a fifth of a second; without it a test of this takes ten."""
    monkeypatch.setattr(connections, "SILENCE_SECONDS", 0.2)
    monkeypatch.setattr(connections, "_GRACE_SECONDS", 0.4)


def works(database: Database) -> bool:
    try:
        with database.transaction() as connection:
            return connection.execute("SELECT 1").fetchone() == (1,)
    except StoreUnavailableError:
        return False


def seconds_to_fail(database: Database, *, match: str) -> float:
    started = time.monotonic()
    with pytest.raises(StoreUnavailableError, match=match), database.transaction() as connection:
        connection.execute("SELECT 1")
    return time.monotonic() - started


# -- away, and back --


def test_a_refused_connection_is_told_with_its_reason_and_not_waited_for(through: Database, proxy: TcpProxy) -> None:
    proxy.refuse()
    proxy.cut()
    assert seconds_to_fail(through, match="can't be reached: .*[Cc]onnection refused") < NEVER_SECONDS / 10
    proxy.forward()
    until(lambda: works(through), "the next calls work", seconds=10)


def test_while_postgres_is_away_one_thread_tries_and_callers_fail_at_once(through: Database, proxy: TcpProxy) -> None:
    proxy.refuse()
    proxy.cut()
    seconds_to_fail(through, match="can't be reached")
    # From here on a caller that tried for itself would hang.
    proxy.black_hole()
    tried = proxy.accepted
    with ThreadPoolExecutor(8) as threads:
        waits = list(threads.map(lambda _: seconds_to_fail(through, match="can't be reached"), range(200)))
    assert max(waits) < 1
    assert proxy.accepted - tried <= 2
    assert through.pool_statistics == (4, 0, 0, 0)
    proxy.forward()
    until(lambda: works(through), "the next calls work", seconds=10)


def test_an_open_connection_serves_while_new_ones_are_refused(through: Database, proxy: TcpProxy) -> None:
    proxy.refuse()
    with through.transaction():
        seconds_to_fail(through, match="can't be reached")
    assert works(through)
    assert works(through)


def test_connections_cut_while_idle_are_replaced_before_anybody_meets_them(through: Database, proxy: TcpProxy) -> None:
    with through.transaction(), through.transaction(), through.transaction():
        pass
    assert through.pool_statistics.idle == 3
    proxy.cut()
    for _ in range(3):
        assert works(through)


def test_a_ping_tells_away_from_there(through: Database, proxy: TcpProxy) -> None:
    assert through.ping() < 2
    proxy.refuse()
    proxy.cut()
    with pytest.raises(StoreUnavailableError, match="can't be reached"):
        through.ping()
    proxy.forward()
    until(lambda: works(through), "the next calls work", seconds=10)
    assert through.ping() < 2


def test_a_ping_into_a_black_hole_ends_and_keeps_others_from_it(through: Database, proxy: TcpProxy) -> None:
    proxy.black_hole()
    with pytest.raises(StoreUnavailableError, match="not answered"):
        through.ping(timeout_seconds=0.3)
    assert seconds_to_fail(through, match="can't be reached") < 1


def test_a_pool_of_terminated_connections_serves_a_caller_who_may_not_wait(database: Urls) -> None:
    with Database(database.app_url, pool_size=8, wait_seconds=0.5) as app:
        with ThreadPoolExecutor(8) as threads:
            together = Event()
            held = [threads.submit(_hold, app, together) for _ in range(8)]
            until(lambda: app.pool_statistics.in_use == 8, "all are in use")
            together.set()
            assert all(future.result() for future in held)
        assert app.pool_statistics.idle == 8
        with psycopg.connect(database.admin_url, autocommit=True) as admin:
            admin.execute(
                "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity"
                " WHERE datname = current_database() AND pid <> pg_backend_pid() AND backend_type = 'client backend'"
            )
        assert works(app)


def _hold(database: Database, until_set: Event) -> bool:
    with database.transaction():
        return until_set.wait(timeout=30)


# -- silent --


@pytest.mark.usefixtures("short_silence")
def test_a_statement_that_postgres_works_on_is_waited_for(through: Database) -> None:
    with through.transaction() as connection:
        assert connection.execute("SELECT pg_sleep(1.5), 'done'").fetchone() == ("", "done")


@pytest.mark.usefixtures("short_silence")
def test_waiting_for_a_lock_is_work(through: Database) -> None:
    with ThreadPoolExecutor(1) as threads:

        def second() -> bool:
            with through.transaction() as connection:
                connection.execute("SELECT pg_advisory_xact_lock(1)")
                return True

        with through.transaction() as holder:
            holder.execute("SELECT pg_advisory_xact_lock(1)")
            waiting = threads.submit(second)
            time.sleep(1.2)
        assert waiting.result()


@pytest.mark.usefixtures("short_silence")
def test_an_answer_that_takes_long_to_arrive_arrives_whole(through: Database, proxy: TcpProxy) -> None:
    proxy.delay(0.03)
    with through.transaction() as connection:
        rows = connection.execute("SELECT repeat('x', 20000) FROM generate_series(1, 200)").fetchall()
    assert [len(text) for (text,) in rows] == [20_000] * 200


@pytest.mark.usefixtures("short_silence")
def test_a_half_open_connection_is_noticed_while_the_server_serves_others(through: Database, proxy: TcpProxy) -> None:
    with pytest.raises(StoreUnavailableError, match=r"was lost: .*question or answer was lost"):
        _swallow_and_ask(through, proxy)
    # The server itself was never away.
    assert works(through)


def _swallow_and_ask(database: Database, proxy: TcpProxy) -> None:
    with database.transaction() as connection:
        connection.execute("SELECT 1")
        proxy.black_hole()
        proxy.forward()
        connection.execute("SELECT 1")


@pytest.mark.usefixtures("short_silence")
def test_copying_into_a_half_open_connection_is_noticed(through: Database, proxy: TcpProxy) -> None:
    def copy() -> None:
        with through.transaction() as connection:
            connection.execute("CREATE TEMPORARY TABLE copied (line text)")
            with connection.cursor() as cursor, cursor.copy("COPY copied FROM STDIN") as copying:
                copying.write("one\n")
                proxy.black_hole()
                proxy.forward()
                for _ in range(100):
                    copying.write("another line\n" * 1000)

    with pytest.raises(StoreUnavailableError, match="was lost"):
        copy()
    assert works(through)


@pytest.mark.usefixtures("short_silence")
def test_a_bounded_pool_waits_no_longer_than_its_bound_for_anything(database: Urls) -> None:
    """The last resort: Postgres claims to be working, and does not end the statement that it should have ended."""
    with Database(database.pipeline_url, statement_seconds=0.5) as bounded:
        bounded._pool._limit_seconds = 1.0

        def overrule_the_server() -> None:
            with bounded.transaction() as first, bounded.transaction() as connection:
                first.execute("SELECT 1")
                connection.execute("SET LOCAL statement_timeout = 0")
                connection.execute("SELECT pg_sleep(600)")

        with pytest.raises(StoreUnavailableError, match=r"has not answered for 1 s|took too long"):
            overrule_the_server()


@pytest.mark.faults
def test_a_half_open_connection_is_noticed_in_time(through: Database, proxy: TcpProxy) -> None:
    started = time.monotonic()
    with pytest.raises(StoreUnavailableError, match="was lost"):
        _swallow_and_ask(through, proxy)
    assert time.monotonic() - started < NOTICED_SECONDS
    assert works(through)


@pytest.mark.faults
def test_a_black_hole_before_everything_is_noticed_in_time(through: Database, proxy: TcpProxy) -> None:
    proxy.black_hole()
    assert seconds_to_fail(through, match="was lost: the server has not answered") < NOTICED_SECONDS
    assert seconds_to_fail(through, match="can't be reached") < 0.5
    proxy.forward()
    until(lambda: works(through), "the next calls work", seconds=5)


@pytest.mark.faults
def test_a_commit_into_a_black_hole_is_noticed_in_time(through: Database, proxy: TcpProxy) -> None:
    def commit() -> None:
        with through.transaction() as connection:
            connection.execute("SELECT 1")
            proxy.black_hole()

    started = time.monotonic()
    with pytest.raises(StoreUnavailableError, match="may be stored or not"):
        commit()
    assert time.monotonic() - started < NOTICED_SECONDS


@pytest.mark.faults
def test_a_suspended_server_is_noticed_in_time_and_used_when_it_goes_on(postgres_server: PostgresServer) -> None:
    migrate(postgres_server.url())
    with Database(postgres_server.url("memory_pipeline"), pool_size=4, wait_seconds=2) as pipeline:
        with pipeline.transaction(), pipeline.transaction(), pipeline.transaction(), pipeline.transaction():
            pass
        with ThreadPoolExecutor(12) as threads:
            postgres_server.running().suspend()
            started = time.monotonic()
            # Three times as many callers as connections: those over are told that all are busy.
            outcomes = [future.exception() for future in [threads.submit(_select, pipeline) for _ in range(12)]]
            assert time.monotonic() - started < NOTICED_SECONDS
            assert {type(outcome) for outcome in outcomes} == {StoreUnavailableError, BusyError}
            assert seconds_to_fail(pipeline, match="can't be reached") < 0.5
            postgres_server.running().resume()
        until(lambda: works(pipeline), "the next calls work", seconds=5)


def _select(database: Database) -> None:
    with database.transaction() as connection:
        connection.execute("SELECT 1")


# -- the answer to COMMIT is lost --


@pytest.mark.parametrize("stored", [True, False])
def test_a_commit_without_an_answer_may_be_stored_and_repeating_it_stores_it_once(
    database: Urls, through: Database, proxy: TcpProxy, stored: bool
) -> None:
    with Database(database.pipeline_url) as direct:
        with direct.transaction() as connection:
            tenant_id = ensure_tenant(connection, "acme")
        users = UserDirectory(direct, tenant_id, "ana@acme.example")
        messages = [message(f"m{number}", f"turn {number}", position=number) for number in range(3)]
        users.resolve(messages[0])
        rejections: list[Rejection] = []

        def send(database: Database) -> IngestReport:
            return ingest(database, tenant_id, users, messages, actor="test", on_reject=rejections.append)

        (proxy.lose_reply if stored else proxy.lose_request)()
        with pytest.raises(StoreUnavailableError, match=r"while it committed, .*may be stored or not"):
            send(through)
        assert proxy.lost == 1
        assert counts(direct, tenant_id) == ((3, 3, 1) if stored else (0, 0, 0))
        report = send(through)
        assert (report.inserted, report.duplicates) == ((0, 3) if stored else (3, 0))
        assert counts(direct, tenant_id) == (3, 3, 1)
        assert rejections == []


def counts(database: Database, tenant_id: UUID) -> tuple[int, ...]:
    """Messages, episodes and conversations of a tenant."""
    with database.tenant_transaction(tenant_id) as connection:
        row = connection.execute(
            "SELECT (SELECT count(*) FROM messages), (SELECT count(*) FROM memories),"
            " (SELECT count(*) FROM conversations)"
        ).fetchone()
    assert row is not None
    return tuple(row)


# -- all of it at once --


@pytest.mark.faults
def test_a_pool_survives_losing_everything_over_and_over(database: Urls) -> None:
    stop = Event()
    served = 0

    def call(opened: Database) -> int:
        done = 0
        while not stop.is_set():
            try:
                with opened.tenant_transaction(uuid4()) as connection:
                    assert connection.execute("SELECT count(*) FROM messages").fetchone() == (0,)
                done += 1
            except (StoreUnavailableError, BusyError):
                pass
        return done

    with (
        TcpProxy(database.app_url) as proxy,
        Database(proxy.url, pool_size=3, wait_seconds=1) as opened,
        ThreadPoolExecutor(12) as threads,
    ):
        callers = [threads.submit(call, opened) for _ in range(12)]
        for _ in range(5):
            time.sleep(0.2)
            proxy.cut()
            time.sleep(0.2)
            proxy.refuse()
            proxy.cut()
            time.sleep(0.3)
            proxy.forward()
        time.sleep(1)
        stop.set()
        served = sum(caller.result() for caller in callers)
        assert served > 100
        statistics = opened.pool_statistics
        assert (statistics.in_use, statistics.waiting) == (0, 0)
        assert statistics.idle <= 3
        for _ in range(5):
            assert works(opened)
