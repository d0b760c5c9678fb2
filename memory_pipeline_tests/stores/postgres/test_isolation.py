"""Tenants in Postgres: what each role may see and write."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from uuid import UUID, uuid4

import psycopg
import pytest
from psycopg import sql as composed

from memory_pipeline.stores.postgres.database import Connection, Database
from memory_pipeline.stores.postgres.tenants import ensure_tenant, ensure_user
from memory_pipeline_tests.conftest import Database as Urls

_CONVERSATION = """
INSERT INTO conversations (tenant_id, conversation_id, user_id, source, source_conversation_id)
VALUES (%(tenant_id)s, %(conversation_id)s, %(user_id)s, 'test', %(name)s)
"""
_MESSAGE = """
INSERT INTO messages (tenant_id, message_id, conversation_id, user_id, source, source_message_id, role, content,
                      content_hash, sent_at, position)
VALUES (%(tenant_id)s, %(message_id)s, %(conversation_id)s, %(user_id)s, 'test', %(name)s, 'user', 'Hello',
        sha256('Hello'), '2025-01-01Z', 0)
"""
_MEMORY = """
INSERT INTO memories (tenant_id, memory_id, user_id, conversation_id, kind, status, content, content_hash, day,
                      source_message_ids)
VALUES (%(tenant_id)s, gen_random_uuid(), %(user_id)s, %(conversation_id)s, 'episode', 'pending_enrichment', 'Hello',
        sha256('Hello'), '2025-01-01', ARRAY[%(message_id)s])
"""
_EVENT = """
INSERT INTO events (tenant_id, kind, actor, correlation_id) VALUES (%(tenant_id)s, 'test', 'test', gen_random_uuid())
"""
_USER = "INSERT INTO users (tenant_id, email, display_name) VALUES (%(tenant_id)s, %(name)s, 'X')"
_ACCESS = """
INSERT INTO memory_access_log (tenant_id, user_id, correlation_id, what, channel, query_hash, memory_ids, turns,
                               from_cache, milliseconds)
VALUES (%(tenant_id)s, %(user_id)s, gen_random_uuid(), 'recall', 'cli', sha256('q'), '{}', 0, false, 1)
"""
_LLM_USAGE = """
INSERT INTO llm_usage (tenant_id, correlation_id, plugin, model, what, requests, texts)
VALUES (%(tenant_id)s, gen_random_uuid(), 'embedder:openai', 'm', 'query_embedding', 1, 1)
"""
WRITTEN_BY_APP = {
    "users": _USER,
    "conversations": _CONVERSATION,
    "messages": _MESSAGE,
    "memories": _MEMORY,
    "events": _EVENT,
    "memory_access_log": _ACCESS,
    "llm_usage": _LLM_USAGE,
}


class World:
    """Two tenants with one row in every table that the app writes."""

    def __init__(self, urls: Urls, pipeline: Database, app: Database) -> None:
        self.urls = urls
        self.pipeline = pipeline
        self.app = app
        self.acme = self._tenant("acme")
        self.globex = self._tenant("globex")

    def _tenant(self, slug: str) -> dict[str, object]:
        with self.pipeline.transaction() as connection:
            tenant_id = ensure_tenant(connection, slug)
            row: dict[str, object] = {
                "tenant_id": tenant_id,
                "user_id": ensure_user(connection, tenant_id, f"ana@{slug}.example", "Ana"),
                "conversation_id": uuid4(),
                "message_id": uuid4(),
                "name": f"first of {slug}",
            }
            for statement in (_CONVERSATION, _MESSAGE, _MEMORY, _EVENT):
                connection.execute(statement, row)
        with self.app.tenant_transaction(tenant_id) as connection:
            for statement in (_ACCESS, _LLM_USAGE):
                connection.execute(statement, row)
        return row

    @contextmanager
    def as_tenant(self, row: dict[str, object]) -> Iterator[Connection]:
        tenant_id = row["tenant_id"]
        assert isinstance(tenant_id, UUID)
        with self.app.tenant_transaction(tenant_id) as connection:
            yield connection

    def execute(self, statement: str) -> None:
        with psycopg.connect(self.urls.admin_url) as connection:
            connection.execute(statement.encode())


def renamed(row: dict[str, object], **changes: object) -> dict[str, object]:
    """The values of a row that is not there yet."""
    return {**row, "name": f"another {uuid4()}", "message_id": uuid4(), **changes}


def tenant_tables(connection: psycopg.Connection[tuple[object, ...]]) -> list[str]:
    rows = connection.execute(
        "SELECT table_name"
        " FROM information_schema.columns JOIN information_schema.tables USING (table_schema, table_name)"
        " WHERE table_schema = 'memory' AND column_name = 'tenant_id' AND table_type = 'BASE TABLE' ORDER BY table_name"
    ).fetchall()
    return [str(name) for (name,) in rows]


def visible(connection: Connection, table: str) -> set[UUID]:
    """The tenants whose rows a connection sees in a table."""
    rows = connection.execute(
        composed.SQL("SELECT DISTINCT tenant_id FROM memory.{}").format(composed.Identifier(table))
    ).fetchall()
    return {UUID(str(tenant_id)) for (tenant_id,) in rows}


@pytest.fixture
def world(database: Urls) -> Iterator[World]:
    with (
        Database(database.pipeline_url, role="memory_pipeline") as pipeline,
        Database(database.app_url, role="memory_app") as app,
    ):
        yield World(database, pipeline, app)


# -- the catalogue --


def test_every_table_with_a_tenant_has_forced_row_level_security_and_the_two_policies(database: Urls) -> None:
    with psycopg.connect(database.admin_url) as connection:
        expected = tenant_tables(connection)
        forced = connection.execute(
            "SELECT relname FROM pg_class WHERE relnamespace = 'memory'::regnamespace"
            " AND relrowsecurity AND relforcerowsecurity ORDER BY relname"
        ).fetchall()
        policies = connection.execute(
            "SELECT tablename, policyname, roles::text[], permissive, cmd,"
            " qual LIKE '%current_tenant_id()%', with_check LIKE '%current_tenant_id()%', qual, with_check"
            " FROM pg_policies WHERE schemaname = 'memory' AND policyname <> 'owner_functions'"
            " ORDER BY tablename, policyname"
        ).fetchall()
        of_the_owner = connection.execute(
            "SELECT tablename, roles::text[] FROM pg_policies WHERE policyname = 'owner_functions' ORDER BY tablename"
        ).fetchall()
    # What the functions that memory_owner owns may touch, and nothing that holds what people said.
    assert of_the_owner == [
        (table, ["memory_owner"])
        for table in ("events", "identities", "plugin_installs", "tenants", "user_roles", "user_sessions", "users")
    ]
    assert len(expected) >= 17
    assert [name for (name,) in forced] == expected
    assert [row[0] for row in policies] == sorted(2 * expected)
    for _table, name, roles, permissive, command, reads_own, writes_own, qual, with_check in policies:
        assert (permissive, command) == ("PERMISSIVE", "ALL")
        if name == "tenant_isolation":
            assert (roles, reads_own, writes_own) == (["memory_app"], True, True)
            assert qual == with_check
            assert " OR " not in qual
        else:
            assert (name, roles, qual, with_check) == ("pipeline_all_tenants", ["memory_pipeline"], "true", "true")


def test_no_role_of_ours_can_bypass_row_level_security(database: Urls) -> None:
    with psycopg.connect(database.admin_url) as connection:
        roles = connection.execute(
            "SELECT rolname, rolsuper, rolbypassrls, rolcreaterole, rolcreatedb FROM pg_roles"
            " WHERE rolname IN ('memory_owner', 'memory_app', 'memory_pipeline') ORDER BY rolname"
        ).fetchall()
    assert roles == [(name, False, False, False, False) for name in ("memory_app", "memory_owner", "memory_pipeline")]


def test_what_is_recorded_is_append_only_and_messages_are_never_rewritten(world: World) -> None:
    delete = composed.SQL("DELETE FROM memory.{}")
    update = composed.SQL("UPDATE memory.{} SET {} = {}")
    for url in (world.urls.app_url, world.urls.pipeline_url):
        for statement in (
            delete.format(composed.Identifier("events")),
            delete.format(composed.Identifier("auth_events")),
            update.format(*map(composed.Identifier, ("events", "tenant_id", "tenant_id"))),
            update.format(*map(composed.Identifier, ("auth_events", "kind", "kind"))),
            update.format(*map(composed.Identifier, ("memory_access_log", "turns", "turns"))),
            update.format(*map(composed.Identifier, ("llm_usage", "cost_usd", "cost_usd"))),
            update.format(*map(composed.Identifier, ("messages", "content", "content"))),
        ):
            with psycopg.connect(url) as connection, pytest.raises(psycopg.errors.InsufficientPrivilege):
                connection.execute(statement)
    # As memory_pipeline those go that are older than they are kept for.
    for table in ("memory_access_log", "llm_usage"):
        with psycopg.connect(world.urls.app_url) as connection, pytest.raises(psycopg.errors.InsufficientPrivilege):
            connection.execute(delete.format(composed.Identifier(table)))


# -- what memory_app sees and writes --


def test_without_a_tenant_the_app_sees_no_row_and_writes_none(world: World) -> None:
    with world.app.transaction() as connection:
        for table in tenant_tables(connection):
            assert visible(connection, table) == set()
    for statement in WRITTEN_BY_APP.values():
        with pytest.raises(psycopg.errors.InsufficientPrivilege), world.app.transaction() as connection:
            connection.execute(statement, renamed(world.acme, conversation_id=uuid4()))


def test_an_empty_tenant_is_no_tenant(world: World) -> None:
    with world.app.transaction() as connection:
        connection.execute("SELECT set_config('app.tenant_id', '', true)")
        assert visible(connection, "messages") == set()


def test_with_a_tenant_the_app_sees_its_rows_alone(world: World) -> None:
    for own, foreign in ((world.acme, world.globex), (world.globex, world.acme)):
        with world.as_tenant(own) as connection:
            for table in ("tenants", *WRITTEN_BY_APP):
                assert visible(connection, table) == {own["tenant_id"]}
            assert (
                connection.execute("SELECT 1 FROM messages WHERE message_id = %s", [foreign["message_id"]]).fetchone()
                is None
            )


@pytest.mark.parametrize("table", WRITTEN_BY_APP)
def test_the_app_writes_rows_of_its_tenant_and_of_no_other(world: World, table: str) -> None:
    statement = WRITTEN_BY_APP[table]
    own = renamed(world.acme)
    if table == "conversations":
        own["conversation_id"] = uuid4()
    with world.as_tenant(world.acme) as connection:
        connection.execute(statement, own)
    foreign = renamed(world.globex)
    if table == "conversations":
        foreign["conversation_id"] = uuid4()
    with (
        pytest.raises(psycopg.errors.InsufficientPrivilege, match="row-level security"),
        world.as_tenant(world.acme) as connection,
    ):
        connection.execute(statement, foreign)


def test_the_app_updates_no_row_of_another_tenant(world: World) -> None:
    with world.as_tenant(world.acme) as connection:
        assert connection.execute("UPDATE users SET display_name = 'Eve'").rowcount == 1
        changed = connection.execute(
            "UPDATE conversations SET title = 'mine' WHERE tenant_id = %(tenant_id)s", world.globex
        )
        assert changed.rowcount == 0
    with world.pipeline.transaction() as connection:
        names = connection.execute("SELECT email, display_name FROM users ORDER BY email").fetchall()
    assert names == [("ana@acme.example", "Eve"), ("ana@globex.example", "Ana")]


def test_the_app_neither_makes_tenants_nor_reads_what_counts_over_all(world: World) -> None:
    for statement in (
        "INSERT INTO tenants (tenant_id, slug, name) VALUES (current_tenant_id(), 'mine', 'Mine')",
        "SELECT * FROM audit_runs",
    ):
        with pytest.raises(psycopg.errors.InsufficientPrivilege), world.as_tenant(world.acme) as connection:
            connection.execute(statement.encode())


def test_a_pooled_connection_carries_no_tenant_over(world: World) -> None:
    """However the transaction before it ended: kept, raised, failed in Postgres, cancelled, or rolled back by hand."""
    tenant_id = world.acme["tenant_id"]
    assert isinstance(tenant_id, UUID)

    def end_well(connection: Connection) -> None:
        pass

    def raise_here(connection: Connection) -> None:
        raise ZeroDivisionError

    def fail_there(connection: Connection) -> None:
        connection.execute("SELECT 1 / 0")

    def be_cancelled(connection: Connection) -> None:
        connection.execute("SET LOCAL statement_timeout = 20")
        connection.execute("SELECT pg_sleep(60)")

    def roll_back(connection: Connection) -> None:
        raise psycopg.Rollback

    with Database(world.urls.app_url, pool_size=1) as app:
        with app.transaction() as connection:
            backend = connection.info.backend_pid
        for ending in (end_well, raise_here, fail_there, be_cancelled, roll_back):
            with (
                suppress(ZeroDivisionError, psycopg.errors.DivisionByZero, psycopg.errors.QueryCanceled),
                app.tenant_transaction(tenant_id) as connection,
            ):
                assert visible(connection, "messages") == {tenant_id}
                ending(connection)
            with app.transaction() as connection:
                assert connection.info.backend_pid == backend
                for table in tenant_tables(connection):
                    assert visible(connection, table) == set(), ending.__name__


def test_the_pipeline_sees_every_tenant(world: World) -> None:
    with world.pipeline.transaction() as connection:
        for table in WRITTEN_BY_APP:
            assert visible(connection, table) == {world.acme["tenant_id"], world.globex["tenant_id"]}


# -- what holds rows together --


def test_the_tenant_of_a_user_is_immutable(world: World) -> None:
    with pytest.raises(psycopg.errors.IntegrityConstraintViolation, match="immutable"):
        world.execute(
            "SET search_path = memory; UPDATE users u SET tenant_id = t.tenant_id FROM tenants t"
            " WHERE t.slug = 'globex' AND u.email = 'ana@acme.example'"
        )
    world.execute("UPDATE memory.users SET tenant_id = tenant_id")


def test_a_memory_never_changes_hands(world: World) -> None:
    for column in ("tenant_id", "user_id", "memory_id", "kind"):
        with pytest.raises(psycopg.errors.InsufficientPrivilege), world.pipeline.transaction() as connection:
            connection.execute(composed.SQL("UPDATE memories SET {0} = {0}").format(composed.Identifier(column)))


@pytest.mark.parametrize("statement", [_MESSAGE, _MEMORY])
def test_rows_of_unknown_or_foreign_users_and_conversations_are_refused(world: World, statement: str) -> None:
    foreign = world.globex
    for changes, what in (
        ({"user_id": uuid4()}, "user"),
        ({"user_id": foreign["user_id"]}, "user"),
        ({"conversation_id": uuid4()}, "conversation"),
        ({"conversation_id": foreign["conversation_id"]}, "conversation"),
    ):
        row = renamed(world.acme, **changes)
        for database in (world.app, world.pipeline):
            tenant_id = world.acme["tenant_id"]
            assert isinstance(tenant_id, UUID)
            with (
                pytest.raises(psycopg.errors.ForeignKeyViolation, match=f"{what} that is not in their tenant"),
                database.tenant_transaction(tenant_id) as connection,
            ):
                connection.execute(statement, row)


def test_one_bad_row_in_a_statement_of_good_ones_is_refused(world: World) -> None:
    with pytest.raises(psycopg.errors.ForeignKeyViolation), world.pipeline.transaction() as connection:
        connection.execute(
            "INSERT INTO memories (tenant_id, memory_id, user_id, kind, status, content, content_hash, day,"
            " source_message_ids)"
            " SELECT tenant_id, gen_random_uuid(), wanted, 'summary', 'active', 'x', sha256('x'), '2025-01-01',"
            " ARRAY[gen_random_uuid()] FROM users, unnest(ARRAY[user_id, %s]) AS wanted",
            [world.globex["user_id"]],
        )


def test_users_and_conversations_in_use_are_not_deleted(world: World) -> None:
    for statement in ("DELETE FROM users", "DELETE FROM conversations"):
        with pytest.raises(psycopg.errors.ForeignKeyViolation, match="still has messages"):
            world.execute("SET search_path = memory; " + statement)
    world.execute("SET search_path = memory; DELETE FROM messages; DELETE FROM conversations")
    with pytest.raises(psycopg.errors.ForeignKeyViolation, match="still has messages or memories"):
        world.execute("SET search_path = memory; DELETE FROM users")
    world.execute("SET search_path = memory; DELETE FROM memories; DELETE FROM users")
