"""Connections: lost ones are replaced and said to be lost, waiting has an end, deadlocks are tried again."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
from uuid import UUID, uuid4

import psycopg
import pytest

from memory_pipeline.local.postgres import PostgresServer
from memory_pipeline.model.errors import BusyError, NotFoundError, StoreUnavailableError
from memory_pipeline.stores.postgres.connections import WatchedConnection
from memory_pipeline.stores.postgres.database import Connection, Database
from memory_pipeline.stores.postgres.migrate import migrate
from memory_pipeline.stores.postgres.tenants import display_name_of, ensure_tenant, ensure_user, find_user
from memory_pipeline_tests.conftest import Database as Urls
from memory_pipeline_tests.local.inspect import until


@pytest.fixture
def pipeline(database: Urls) -> Iterator[Database]:
    with Database(database.pipeline_url) as opened:
        yield opened


def terminate_all(urls: Urls) -> int:
    """End every session of the database but this one; return how many there were."""
    with psycopg.connect(urls.admin_url, autocommit=True) as connection:
        return connection.execute(
            "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity"
            " WHERE datname = current_database() AND pid <> pg_backend_pid() AND backend_type = 'client backend'"
        ).rowcount


def test_a_pool_of_terminated_connections_mends_itself(database: Urls, pipeline: Database) -> None:
    with pipeline.transaction(), pipeline.transaction():
        pass
    assert terminate_all(database) == 2
    for _ in range(3):
        with pipeline.transaction() as connection:
            assert connection.execute("SELECT 1").fetchone() == (1,)


def test_a_connection_lost_in_a_transaction_is_said_so_and_nothing_is_stored(
    database: Urls, pipeline: Database
) -> None:
    def lose_it(connection: Connection) -> None:
        ensure_tenant(connection, "lost")
        terminate_all(database)
        connection.execute("SELECT 1")

    with pytest.raises(StoreUnavailableError, match=r"was lost.*not committed is not stored"):
        pipeline.in_tenant(uuid4(), lose_it)
    with pipeline.transaction() as connection:
        assert connection.execute("SELECT count(*) FROM tenants").fetchone() == (0,)


def test_a_lock_waited_for_in_vain_is_busy_and_not_tried_again(pipeline: Database) -> None:
    tries = []

    def wait_in_vain(connection: Connection) -> None:
        tries.append(1)
        connection.execute("SET LOCAL lock_timeout = '10ms'")
        connection.execute("SELECT pg_advisory_xact_lock(1)")

    with pipeline.transaction() as holder:
        holder.execute("SELECT pg_advisory_xact_lock(1)")
        with pytest.raises(BusyError, match=r"another run holds.*lock timeout.*Nothing is stored"):
            pipeline.in_tenant(uuid4(), wait_in_vain)
    assert len(tries) == 1


def test_a_restarted_server_is_used_again_without_reopening(postgres_server: PostgresServer) -> None:
    migrate(postgres_server.url())
    with Database(postgres_server.url("memory_pipeline")) as pipeline:
        with pipeline.transaction() as connection:
            tenant_id = ensure_tenant(connection, "acme")
        postgres_server.kill()
        postgres_server.start()
        with pipeline.transaction() as connection:
            assert ensure_tenant(connection, "acme") == tenant_id


def test_waiting_for_a_connection_has_an_end_that_says_who_waited(database: Urls) -> None:
    with Database(database.app_url, name="api", pool_size=1, wait_seconds=0.1) as app:
        with (
            app.transaction() as held,
            pytest.raises(BusyError, match=r"all 1 Postgres connections of api are in use, .* within 0\.1 s"),
            app.transaction(),
        ):
            pytest.fail("a second connection came out of a pool of one")
        with app.transaction() as connection:
            assert connection is held


def test_a_connection_goes_to_who_waits_for_it(database: Urls) -> None:
    with Database(database.app_url, pool_size=1, wait_seconds=60) as app, ThreadPoolExecutor(3) as threads:

        def use() -> int:
            with app.transaction() as connection:
                return connection.info.backend_pid

        with app.transaction() as held:
            waiting = [threads.submit(use) for _ in range(3)]
            until(lambda: app.pool_statistics.waiting == 3, "three callers wait")
            assert app.pool_statistics == (1, 1, 0, 3)
        assert {future.result() for future in waiting} == {held.info.backend_pid}
        assert app.pool_statistics == (1, 0, 1, 0)


def test_postgres_shows_what_a_connection_is_for(database: Urls) -> None:
    with Database(database.app_url, name="memory-api auth") as app, app.transaction() as connection:
        assert connection.execute("SHOW application_name").fetchone() == ("memory-api auth",)


def test_a_statement_ends_when_its_time_is_up(database: Urls) -> None:
    with Database(database.app_url, statement_seconds=0.1) as app:
        with pytest.raises(BusyError, match=r"may take 0\.1 s: .*statement timeout"), app.transaction() as connection:
            connection.execute("SELECT pg_sleep(60)")
        with app.transaction() as connection:
            assert connection.execute("SELECT 1").fetchone() == (1,)


def test_a_cancelled_statement_of_an_unbounded_pool_stays_what_it_is(pipeline: Database) -> None:
    def wait(connection: Connection) -> None:
        connection.execute("SET LOCAL statement_timeout = 50")
        connection.execute("SELECT pg_sleep(60)")

    with pytest.raises(psycopg.errors.QueryCanceled):
        pipeline.in_tenant(uuid4(), wait)


def test_a_transaction_after_closing_is_refused(database: Urls) -> None:
    with Database(database.app_url) as app:
        pass
    with pytest.raises(StoreUnavailableError, match="are closed"), app.transaction():
        pytest.fail("a closed database gave a connection")


def test_closing_leaves_no_session_behind(database: Urls) -> None:
    app = Database(database.app_url, name="to be closed").open()
    with app.transaction(), app.transaction():
        app.close()
    with psycopg.connect(database.admin_url, autocommit=True) as admin:

        def sessions() -> object:
            return admin.execute(
                "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'to be closed'"
            ).fetchone()

        until(lambda: sessions() == (0,), "all sessions of the pool have ended")


def test_a_ping_measures_a_round_trip_and_leaves_no_transaction(pipeline: Database) -> None:
    assert 0 < pipeline.ping() < 2
    assert pipeline.pool_statistics == (4, 0, 1, 0)
    with pipeline.transaction() as connection:
        assert connection.info.transaction_status is psycopg.pq.TransactionStatus.INTRANS


def test_a_ping_of_a_busy_pool_says_so(database: Urls) -> None:
    with (
        Database(database.app_url, pool_size=1, wait_seconds=60) as app,
        app.transaction(),
        pytest.raises(BusyError),
    ):
        app.ping(timeout_seconds=0.1)


def test_a_deadlock_is_resolved_by_trying_again(pipeline: Database) -> None:
    with pipeline.transaction() as connection:
        tenant_id = ensure_tenant(connection, "acme")
        for name in ("a", "b"):
            ensure_user(connection, tenant_id, f"{name}@acme.example", "")
        connection.execute("UPDATE users SET display_name = ''")
    met = Barrier(2)
    tries = []

    def rename(first: str, second: str) -> None:
        def work(connection: Connection) -> None:
            tries.append(first)
            statement = "UPDATE users SET display_name = display_name || 'x' WHERE email = %s"
            connection.execute(statement, [f"{first}@acme.example"])
            if len(tries) <= 2:
                met.wait(timeout=30)
            connection.execute(statement, [f"{second}@acme.example"])

        pipeline.in_tenant(tenant_id, work)

    with ThreadPoolExecutor(2) as pool:
        for future in [pool.submit(rename, "a", "b"), pool.submit(rename, "b", "a")]:
            future.result()
    assert len(tries) == 3
    with pipeline.transaction() as connection:
        names = connection.execute("SELECT display_name FROM users").fetchall()
    assert names == [("xx",), ("xx",)]


def test_a_deadlock_of_a_transaction_that_is_not_tried_again_is_busy(pipeline: Database) -> None:
    met = Barrier(2)

    def lock(first: int, second: int) -> str:
        try:
            with pipeline.transaction() as connection:
                connection.execute("SELECT pg_advisory_xact_lock(%s)", [first])
                met.wait(timeout=30)
                connection.execute("SELECT pg_advisory_xact_lock(%s)", [second])
        except BusyError as error:
            return str(error)
        return "done"

    with ThreadPoolExecutor(2) as pool:
        said = sorted(future.result() for future in [pool.submit(lock, 1, 2), pool.submit(lock, 2, 1)])
    assert said == ["done", "others change the same rows: deadlock detected. Nothing is stored; run it again."]


def test_only_deadlocks_are_tried_again(pipeline: Database) -> None:
    tries = []

    def work(connection: Connection) -> None:
        tries.append(connection)
        connection.execute("SELECT 1 / 0")

    with pytest.raises(psycopg.errors.DivisionByZero):
        pipeline.in_tenant(uuid4(), work)
    assert len(tries) == 1


def test_a_user_is_found_by_an_address_in_any_case(pipeline: Database) -> None:
    with pipeline.transaction() as connection:
        tenant_id = ensure_tenant(connection, "acme")
        user_id = ensure_user(connection, tenant_id, "Ana.Ünal@Acme.Example", "Ana")
        assert ensure_user(connection, tenant_id, "ana.ÜNAL@acme.example", "Somebody") == user_id
        assert display_name_of(connection, tenant_id, user_id) == "Ana"
        assert find_user(connection, "ANA.ünal@ACME.example").user_id == user_id
        with pytest.raises(NotFoundError):
            display_name_of(connection, tenant_id, uuid4())


def test_letters_newer_than_this_python_are_lowered_as_postgres_does(pipeline: Database) -> None:
    # U+A7CB is a capital letter since Unicode 16: lower() in Python before 3.14 leaves it as it is.
    with pipeline.transaction() as connection:
        tenant_id = ensure_tenant(connection, "acme")
        user_id = ensure_user(connection, tenant_id, "\ua7cb@acme.example", "Ram")
        assert find_user(connection, "\ua7cb@acme.example") == (
            tenant_id,
            user_id,
            "\u0264@acme.example",
            "Ram",
            "acme",
        )


@pytest.mark.parametrize("slug", ["", "Acme", "a b", "-a", "a" * 64, "a'; DROP TABLE tenants; --", "ä"])
def test_a_slug_that_no_tenant_can_have_is_refused_by_name(pipeline: Database, slug: str) -> None:
    with pytest.raises(NotFoundError) as refusal, pipeline.transaction() as connection:
        ensure_tenant(connection, slug)
    assert repr(slug) in str(refusal.value)


def test_the_same_tenant_made_at_once_is_one(database: Urls, pipeline: Database) -> None:
    start = Barrier(4)

    def make() -> UUID:
        start.wait(timeout=30)
        with pipeline.transaction() as connection:
            return ensure_tenant(connection, "acme")

    with ThreadPoolExecutor(4) as pool:
        assert len({future.result() for future in [pool.submit(make) for _ in range(4)]}) == 1


def test_a_connection_that_dies_as_it_is_taken_is_left_for_another(
    database: Urls, pipeline: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pipeline.transaction(), pipeline.transaction(), pipeline.transaction():
        pass
    assert terminate_all(database) == 3
    # As if they had died a moment later, when they had been looked at already.
    monkeypatch.setattr(WatchedConnection, "looks_alive", lambda self: True)
    with pipeline.transaction() as connection:
        assert connection.execute("SELECT 1").fetchone() == (1,)
    assert pipeline.pool_statistics == (4, 0, 1, 0)
