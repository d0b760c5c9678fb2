"""Which database a process works on: told apart on real servers, announced through Redis, refused where they differ."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import msgspec
import psycopg
import pytest
from psycopg import sql

from memory_pipeline import metrics
from memory_pipeline.local.postgres import PostgresServer
from memory_pipeline.local.redis import RedisServer
from memory_pipeline.model.errors import SchemaVersionError, WiringError
from memory_pipeline.serving.wiring import Announcement, ProcessName, Wiring, wired
from memory_pipeline.settings import Settings
from memory_pipeline.stages.pipeline import Pipeline
from memory_pipeline.stores.postgres.database import Database
from memory_pipeline.stores.postgres.fingerprint import Fingerprint, read_fingerprint
from memory_pipeline.stores.postgres.migrate import migrate
from memory_pipeline.stores.redis import keys
from memory_pipeline.stores.redis.manager import RedisManager
from memory_pipeline_tests.conftest import Database as Urls
from memory_pipeline_tests.conftest import fresh_database
from memory_pipeline_tests.local.host import Servers

PASSWORD = "secret-7f3a"


@pytest.fixture
def copy(servers: Servers, migrated_template: str) -> Iterator[Urls]:
    """Made by CREATE DATABASE … TEMPLATE, as `database` is: every row the same, installation_id too."""
    with fresh_database(servers, migrated_template) as made:
        yield made


@pytest.fixture
def redis(redis_url: str) -> Iterator[RedisManager]:
    with RedisManager(redis_url) as manager:
        yield manager


@contextmanager
def opened(*urls: str) -> Iterator[dict[str, Database]]:
    """Connections as a process names them: the app's, then the pipeline's."""
    names = ("MEMORY_POSTGRES_APP_URL", "MEMORY_POSTGRES_PIPELINE_URL")
    with ExitStack() as stack:
        yield {name: stack.enter_context(Database(url)) for name, url in zip(names, urls, strict=False)}


def fingerprint(url: str) -> Fingerprint:
    with Database(url) as database, database.transaction() as connection:
        return read_fingerprint(connection)


def execute(url: str, statement: str) -> None:
    with psycopg.connect(url, autocommit=True) as admin:
        admin.execute(statement.encode())


def wiring_keys(redis: RedisManager) -> set[str]:
    found: Any = redis.queue(lambda client: client.keys("wiring:*"))
    return {key.decode() for key in found}


def lifetime(redis: RedisManager, key: str) -> int:
    seconds: Any = redis.queue(lambda client: client.ttl(key))
    return int(seconds)


def other_process(process: ProcessName, databases: dict[str, Database], redis: RedisManager) -> Wiring:
    """One that looks to this process as if it ran on another host."""
    return Wiring(process, databases, redis, host="elsewhere")


# -- fingerprints --


def test_both_roles_see_the_same_database(database: Urls) -> None:
    app, pipeline = fingerprint(database.app_url), fingerprint(database.pipeline_url)
    assert app == pipeline
    assert app.is_same_database(pipeline)
    assert app.database == database.name
    assert app.system_identifier is not None


def test_a_copy_in_the_same_cluster_is_another_database(database: Urls, copy: Urls) -> None:
    original, copied = fingerprint(database.app_url), fingerprint(copy.app_url)
    assert original.installation_id == copied.installation_id
    assert not original.is_same_database(copied)


def test_a_database_that_was_made_anew_under_its_name_is_another(servers: Servers, database: Urls, copy: Urls) -> None:
    before = fingerprint(copy.app_url)
    with psycopg.connect(servers.postgres_url(), autocommit=True) as admin:
        name = sql.Identifier(copy.name)
        admin.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(name))
        admin.execute(sql.SQL("CREATE DATABASE {} TEMPLATE {}").format(name, sql.Identifier(database.name)))
    assert not before.is_same_database(fingerprint(copy.app_url))


def test_the_same_rows_in_another_cluster_are_another_database(database: Urls, postgres_server: PostgresServer) -> None:
    here = fingerprint(database.app_url)
    execute(postgres_server.url(), f'CREATE DATABASE "{database.name}" OID {here.database_oid + 1_000_000}')
    migrate(postgres_server.url(database=database.name))
    with psycopg.connect(postgres_server.url(database=database.name)) as restored:
        restored.execute("UPDATE memory.installation SET installation_id = %s", [here.installation_id])
    there = fingerprint(postgres_server.url("memory_app", database.name))
    assert there.installation_id == here.installation_id
    assert not here.is_same_database(msgspec.structs.replace(there, database_oid=here.database_oid))


def test_a_cluster_that_may_not_be_read_is_not_compared(database: Urls) -> None:
    before = fingerprint(database.app_url)
    execute(database.admin_url, "REVOKE EXECUTE ON FUNCTION pg_control_system() FROM PUBLIC")
    unread = fingerprint(database.app_url)
    assert unread.system_identifier is None
    assert "cluster unknown" in str(unread)
    assert before.is_same_database(unread)
    assert unread.is_same_database(before)


# -- one process --


def test_settings_of_one_process_that_lead_to_two_databases_are_refused(
    database: Urls, copy: Urls, redis: RedisManager
) -> None:
    with (
        opened(database.app_url, copy.pipeline_url) as databases,
        pytest.raises(WiringError, match="MEMORY_POSTGRES_APP_URL leads to") as refusal,
    ):
        Wiring("api", databases, redis).start()
    assert database.name in str(refusal.value)
    assert f"MEMORY_POSTGRES_PIPELINE_URL leads to database {copy.name}" in str(refusal.value)
    assert wiring_keys(redis) <= {"wiring:index:processes"}


def test_no_message_holds_a_user_or_a_password(database: Urls, copy: Urls, redis: RedisManager) -> None:
    for url in (database.admin_url, copy.admin_url):
        execute(url, f"ALTER ROLE memory_app PASSWORD '{PASSWORD}'")
    try:
        here, there = (psycopg.conninfo.make_conninfo(urls.app_url, password=PASSWORD) for urls in (database, copy))
        with opened(here) as databases, Wiring("api", databases, redis) as wiring:
            texts = [str(wiring.report), msgspec.json.encode(wiring.report).decode()]
            announced: Any = redis.queue(lambda client: client.get(wiring._key))
            texts.append(announced.decode())
            with opened(there) as others, pytest.raises(WiringError) as refusal:
                other_process("worker", others, redis).start()
            texts.append(str(refusal.value))
        with opened(here, there) as both, pytest.raises(WiringError) as refusal:
            Wiring("api", both, redis).start()
        texts.append(str(refusal.value))
        for text in texts:
            assert PASSWORD not in text
            assert "memory_app" not in text
    finally:
        execute(database.admin_url, "ALTER ROLE memory_app PASSWORD NULL")


def test_an_older_schema_is_refused(database: Urls, redis: RedisManager) -> None:
    with opened(database.app_url) as databases:
        execute(
            database.admin_url,
            "DELETE FROM memory.migration_history WHERE version = (SELECT max(version) FROM memory.migration_history)",
        )
        with pytest.raises(SchemaVersionError, match="older than this program"):
            Wiring("api", databases, redis).start()


def test_a_schema_that_was_migrated_meanwhile_shows_in_the_report(database: Urls, redis: RedisManager) -> None:
    with opened(database.app_url) as databases, Wiring("api", databases, redis) as wiring:
        assert wiring.report.ok
        execute(database.admin_url, "INSERT INTO memory.migration_history VALUES (9999, 'later', 'x')")
        report = wiring.check()
    assert (report.result, report.ok) == ("other_schema", False)
    assert "newer than this program" in report.message


def test_an_address_that_leads_elsewhere_later_shows_in_the_report(
    servers: Servers, database: Urls, copy: Urls, redis: RedisManager
) -> None:
    with opened(copy.app_url) as databases, Wiring("api", databases, redis) as wiring:
        with psycopg.connect(servers.postgres_url(), autocommit=True) as admin:
            name = sql.Identifier(copy.name)
            admin.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(name))
            admin.execute(sql.SQL("CREATE DATABASE {} TEMPLATE {}").format(name, sql.Identifier(database.name)))
        report = wiring.check()
    assert report.result == "other_database"
    assert "this process started on" in report.message


def test_swapped_settings_of_a_pipeline_are_found(settings: Settings, copy: Urls) -> None:
    crossed = settings.model_copy(update={"postgres_app_url": copy.app_url})
    with Pipeline(crossed) as pipeline, pytest.raises(WiringError), wired("dagster", pipeline):
        pass
    with Pipeline(settings) as pipeline, wired("dagster", pipeline) as wiring:
        assert wiring.report.result == "same"


# -- several processes --


def test_processes_on_one_database_see_each_other(database: Urls, redis: RedisManager) -> None:
    with (
        opened(database.app_url) as api,
        opened(database.pipeline_url) as worker,
        other_process("worker", worker, redis),
        Wiring("api", api, redis) as wiring,
    ):
        (other,) = wiring.report.others
        assert (other.process, other.host, other.pid) == ("worker", "elsewhere", os.getpid())
        assert wiring.report.result == "same"


def test_a_process_on_another_database_is_refused_and_both_are_named(
    database: Urls, copy: Urls, redis: RedisManager
) -> None:
    before = counted("other_database")
    with opened(database.app_url) as api, opened(copy.app_url) as worker, Wiring("api", api, redis) as wiring:
        with pytest.raises(WiringError) as refusal:
            other_process("worker", worker, redis).start()
        # The one that was refused leaves nothing behind that would trouble the one that runs.
        assert wiring.check().result == "same"
    message = str(refusal.value)
    assert "worker (host elsewhere" in message
    assert "api (host" in message
    assert f"database {database.name} at" in message
    assert f"database {copy.name} at" in message
    assert counted("other_database") == before + 1


def test_a_running_process_reports_one_that_came_with_another_database(
    database: Urls, copy: Urls, redis: RedisManager
) -> None:
    with opened(database.app_url) as api, opened(copy.app_url) as worker, Wiring("api", api, redis) as wiring:
        there = Announcement(process="worker", host="elsewhere", pid=1, fingerprint=fingerprint(copy.app_url))
        other = other_process("worker", worker, redis)
        assert other._announce(there.fingerprint) is None
        report = wiring.check()
        assert (report.result, report.ok) == ("other_database", False)
        assert copy.name in report.message
        other._withdraw()
        assert wiring.check().ok


def test_a_clean_stop_takes_the_announcement_back(database: Urls, copy: Urls, redis: RedisManager) -> None:
    with opened(database.app_url) as databases:
        with Wiring("api", databases, redis):
            assert any(key.startswith("wiring:api:") for key in wiring_keys(redis))
        assert not any(key.startswith("wiring:api:") for key in wiring_keys(redis))
    with opened(copy.app_url) as databases, other_process("api", databases, redis) as wiring:
        assert wiring.report.result == "same"


def test_a_killed_process_is_forgotten_with_its_announcement(database: Urls, copy: Urls, redis: RedisManager) -> None:
    with opened(database.app_url) as databases, opened(copy.app_url) as moved:
        killed = other_process("api", databases, redis)
        assert killed._announce(fingerprint(database.app_url)) is None
        with pytest.raises(WiringError, match="forgotten after 300 seconds"):
            Wiring("worker", moved, redis).start()
        assert 290 <= lifetime(redis, killed._key) <= 300
        redis.queue(lambda client: client.pexpire(killed._key, 1))
        while redis.queue(lambda client: client.exists(killed._key)):
            pass
        with Wiring("worker", moved, redis) as wiring:
            assert wiring.report.others == ()


def test_a_process_restarted_under_its_own_name_does_not_meet_itself(
    database: Urls, copy: Urls, redis: RedisManager
) -> None:
    with opened(database.app_url) as databases, opened(copy.app_url) as moved:
        assert Wiring("api", databases, redis)._announce(fingerprint(database.app_url)) is None
        with Wiring("api", moved, redis) as wiring:
            assert wiring.report.result == "same"


def test_processes_still_on_the_schema_of_before_are_named(database: Urls, redis: RedisManager) -> None:
    older = msgspec.structs.replace(fingerprint(database.app_url), schema_version="0001_core")
    with opened(database.app_url) as databases:
        assert other_process("worker", databases, redis)._announce(older) is None
        with Wiring("api", databases, redis) as wiring:
            assert wiring.report.result == "same"
            assert "still to be restarted" in wiring.report.message
            assert "worker (host elsewhere" in wiring.report.message


def test_every_key_ends_by_itself_and_has_a_family(database: Urls, redis: RedisManager) -> None:
    with opened(database.app_url) as databases, Wiring("api", databases, redis):
        found = wiring_keys(redis)
        assert len(found) == 2
        for key in found:
            assert keys.family_of(key) == keys.WIRING
            assert 0 < lifetime(redis, key) <= 300


# -- stores that are away --


def test_without_redis_the_start_goes_on_and_says_that_others_are_unknown(
    database: Urls, redis_server: RedisServer
) -> None:
    with RedisManager(redis_server.url()) as redis, opened(database.app_url) as databases:
        redis_server.kill()
        with Wiring("api", databases, redis) as wiring:
            assert (wiring.report.result, wiring.report.ok) == ("not_compared", True)
            assert "not known" in wiring.report.message
            redis_server.start()
            assert wiring.check().result == "same"
    with opened(database.app_url) as databases, Wiring("api", databases, None) as wiring:
        assert wiring.report.result == "not_compared"


def test_an_announcement_lost_with_redis_comes_back(database: Urls, redis: RedisManager) -> None:
    with opened(database.app_url) as databases, Wiring("api", databases, redis) as wiring:
        redis.queue(lambda client: client.flushdb())
        wiring.check()
        assert wiring._key in wiring_keys(redis)


def test_a_postgres_that_is_away_shows_and_the_process_stays_announced(database: Urls, redis: RedisManager) -> None:
    with opened(database.app_url) as databases, Wiring("api", databases, redis) as wiring:
        databases["MEMORY_POSTGRES_APP_URL"].close()
        redis.queue(lambda client: client.flushdb())
        report = wiring.check()
        assert (report.result, report.ok) == ("database_away", True)
        assert wiring._key in wiring_keys(redis)


def test_a_pool_without_a_free_connection_leaves_the_report_as_it_was(database: Urls, redis: RedisManager) -> None:
    with (
        Database(database.app_url, pool_size=1, wait_seconds=0.1) as app,
        Wiring("api", {"MEMORY_POSTGRES_APP_URL": app}, redis) as wiring,
    ):
        redis.queue(lambda client: client.flushdb())
        before = wiring.report
        with app.transaction():
            assert wiring.check() == before
        assert wiring._key in wiring_keys(redis)


def counted(result: str) -> float:
    return metrics.REGISTRY.get_sample_value("memory_schema_checks_total", {"result": result}) or 0
