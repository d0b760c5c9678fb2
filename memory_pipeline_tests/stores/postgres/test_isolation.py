"""Tenants in Postgres: what each role may see and write, and that a database where that was changed is refused."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from uuid import UUID, uuid4

import psycopg
import pytest
from psycopg import sql as composed

from memory_pipeline.model.errors import MemoryPipelineError, SchemaVersionError, StoreUnavailableError
from memory_pipeline.settings import Settings
from memory_pipeline.stages.pipeline import Pipeline
from memory_pipeline.stores.postgres.database import Connection, Database
from memory_pipeline.stores.postgres.isolation import isolation_problems
from memory_pipeline.stores.postgres.tenants import ensure_tenant, ensure_user
from memory_pipeline_tests.conftest import Database as Urls
from memory_pipeline_tests.conftest import fresh_database
from memory_pipeline_tests.local.host import Servers

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
WRITTEN_BY_APP = {
    "users": _USER,
    "conversations": _CONVERSATION,
    "messages": _MESSAGE,
    "memories": _MEMORY,
    "events": _EVENT,
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


def test_events_are_append_only_and_messages_are_never_rewritten(world: World) -> None:
    delete = composed.SQL("DELETE FROM memory.{}")
    update = composed.SQL("UPDATE memory.{} SET {} = {}")
    for url in (world.urls.app_url, world.urls.pipeline_url):
        for statement in (
            delete.format(composed.Identifier("events")),
            delete.format(composed.Identifier("auth_events")),
            update.format(*map(composed.Identifier, ("events", "tenant_id", "tenant_id"))),
            update.format(*map(composed.Identifier, ("auth_events", "kind", "kind"))),
            update.format(*map(composed.Identifier, ("messages", "content", "content"))),
        ):
            with psycopg.connect(url) as connection, pytest.raises(psycopg.errors.InsufficientPrivilege):
                connection.execute(statement)


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


# -- what makes a process refuse to start --


@pytest.fixture(scope="module")
def shared_urls(servers: Servers, migrated_template: str) -> Iterator[Urls]:
    """A migrated database in which nothing is ever committed."""
    with fresh_database(servers, migrated_template) as urls:
        yield urls


def problems_after(urls: Urls, change: str, role: str) -> list[str]:
    """What a connection of `role` finds wrong after a change, which is then taken back."""
    with psycopg.connect(urls.admin_url, options="-c search_path=memory,public") as connection:
        assert connection.execute("SELECT current_schemas(false)").fetchone() == (["memory", "public"],)
        connection.execute(change.encode())
        connection.execute(composed.SQL("SET LOCAL SESSION AUTHORIZATION {}").format(composed.Identifier(role)))
        problems = isolation_problems(connection, role)
        connection.rollback()
    return problems


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ("DROP POLICY tenant_isolation ON memory.messages", "table messages lacks the policy tenant_isolation"),
        ("DROP POLICY pipeline_all_tenants ON memory.events", "table events lacks the policy pipeline_all_tenants"),
        ("ALTER POLICY tenant_isolation ON memory.users USING (true)", "table users has a policy other than"),
        ("ALTER POLICY tenant_isolation ON memory.users WITH CHECK (true)", "table users has a policy other than"),
        (
            "ALTER POLICY tenant_isolation ON memory.memories USING (tenant_id = memory.current_tenant_id() OR true)",
            "table memories has a policy other than",
        ),
        ("ALTER POLICY tenant_isolation ON memory.memories TO PUBLIC", "table memories has a policy other than"),
        ("ALTER POLICY pipeline_all_tenants ON memory.memories TO PUBLIC", "table memories has a policy other than"),
        (
            "CREATE POLICY helpful ON memory.conversations FOR SELECT TO memory_app USING (true)",
            "table conversations has a policy other than was migrated: helpful",
        ),
        ("ALTER TABLE memory.messages NO FORCE ROW LEVEL SECURITY", "table messages has no forced row-level security"),
        ("ALTER TABLE memory.messages DISABLE ROW LEVEL SECURITY", "table messages has no forced row-level security"),
        ("CREATE TABLE memory.notes (tenant_id uuid, note text)", "table notes has no forced row-level security"),
        ("CREATE VIEW memory.everything AS SELECT * FROM memory.messages", "view everything reads with the rights"),
        (
            "CREATE OR REPLACE FUNCTION memory.current_tenant_id() RETURNS uuid LANGUAGE sql STABLE PARALLEL SAFE"
            " RETURN (SELECT tenant_id FROM memory.tenants LIMIT 1)",
            "current_tenant_id() is not as it was migrated",
        ),
        (
            "CREATE POLICY owner_functions ON memory.messages TO memory_owner USING (true) WITH CHECK (true)",
            "table messages has a policy other than was migrated: owner_functions",
        ),
        ("ALTER POLICY owner_functions ON memory.users TO memory_app", "table users has a policy other than"),
        (
            "CREATE FUNCTION memory.peek() RETURNS SETOF memory.messages LANGUAGE sql SECURITY DEFINER"
            " AS 'SELECT * FROM memory.messages'",
            "function peek acts with the rights of its owner and is not as it was migrated",
        ),
        (
            "CREATE FUNCTION memory.peek() RETURNS bigint LANGUAGE sql SECURITY DEFINER"
            " RETURN (SELECT count(*) FROM memory.messages)",
            "function peek acts with the rights of its owner and is not as it was migrated",
        ),
        (
            "CREATE FUNCTION public.peek() RETURNS SETOF memory.messages LANGUAGE sql SECURITY DEFINER"
            " AS 'SELECT * FROM memory.messages'",
            "function peek() acts with the rights of postgres, which reads every tenant",
        ),
        (
            "CREATE OR REPLACE FUNCTION memory.grant_first_role() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER"
            " SET search_path = memory, pg_temp AS 'BEGIN RETURN NULL; END'",
            "function grant_first_role acts with the rights of its owner and is not as it was migrated",
        ),
        (
            "ALTER FUNCTION memory.grant_first_role RESET search_path",
            "function grant_first_role acts with the rights of its owner and is not as it was migrated",
        ),
        (
            "ALTER FUNCTION memory.authenticate OWNER TO postgres",
            "function authenticate acts with the rights of its owner and is not as it was migrated",
        ),
        (
            "GRANT EXECUTE ON FUNCTION memory.authenticate TO PUBLIC",
            "function authenticate acts with the rights of its owner and is not as it was migrated",
        ),
        (
            "ALTER FUNCTION memory.refuse_tenant_change SECURITY DEFINER",
            "function refuse_tenant_change acts with the rights of its owner and is not as it was migrated",
        ),
        (
            "CREATE OR REPLACE FUNCTION memory.refuse_tenant_change() RETURNS trigger LANGUAGE plpgsql"
            " AS 'BEGIN RETURN NEW; END'",
            "function refuse_tenant_change is not as it was migrated",
        ),
        (
            "CREATE VIEW public.everything AS SELECT content FROM memory.messages;"
            "GRANT SELECT ON public.everything TO PUBLIC",
            "view everything reads memory with the rights of its owner",
        ),
        (
            "CREATE VIEW public.inner_one AS SELECT content FROM memory.messages;"
            "CREATE VIEW public.outer_one AS SELECT content FROM public.inner_one;"
            "GRANT SELECT (content) ON public.outer_one TO memory_app, memory_pipeline",
            "view outer_one reads memory with the rights of its owner",
        ),
        (
            "CREATE MATERIALIZED VIEW public.frozen AS SELECT content FROM memory.messages;"
            "GRANT SELECT ON public.frozen TO memory_app, memory_pipeline",
            "view frozen reads memory with the rights of its owner",
        ),
        ("GRANT SELECT ON memory.messages TO PUBLIC", "everybody (PUBLIC) has rights on messages"),
        ("GRANT SELECT (subject) ON memory.auth_events TO PUBLIC", "everybody (PUBLIC) has rights on auth_events"),
        ("GRANT TRUNCATE ON memory.messages TO memory_app, memory_pipeline", "has TRUNCATE, TRIGGER or REFERENCES on"),
        ("GRANT TRIGGER ON memory.messages TO memory_app, memory_pipeline", "has TRUNCATE, TRIGGER or REFERENCES on"),
        (
            "GRANT REFERENCES (user_id) ON memory.users TO memory_app, memory_pipeline",
            "has TRUNCATE, TRIGGER or REFERENCES on users",
        ),
        ("GRANT DELETE ON memory.events TO memory_app, memory_pipeline", "may change or delete events"),
        ("GRANT UPDATE (detail) ON memory.events TO memory_app, memory_pipeline", "may change or delete events"),
        ("GRANT CREATE ON SCHEMA memory TO memory_app, memory_pipeline", "may create objects in schema memory"),
        ("ALTER TABLE memory.users DISABLE TRIGGER users_tenant_is_locked", "trigger users_tenant_is_locked of table"),
        ("DROP TRIGGER identities_stay ON memory.identities", "trigger identities_stay of table identities is missing"),
        ("DROP TRIGGER conversations_exist ON memory.memories", "trigger conversations_exist of table memories is"),
        ("ALTER TABLE memory.messages ENABLE REPLICA TRIGGER users_exist", "trigger users_exist of table messages is"),
    ],
)
def test_altered_isolation_is_found_by_either_role(shared_urls: Urls, change: str, reason: str) -> None:
    for role in ("memory_app", "memory_pipeline"):
        assert any(reason in problem for problem in problems_after(shared_urls, change, role)), role


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ("DROP POLICY tenant_isolation ON memory.messages", "table messages lacks the policy tenant_isolation"),
        ("GRANT SELECT ON memory.messages TO PUBLIC", "everybody (PUBLIC) has rights on messages"),
        (
            "DROP FUNCTION memory.refuse_tenant_change CASCADE",
            "trigger users_tenant_is_locked of table users is missing",
        ),
        ("ALTER FUNCTION memory.authenticate OWNER TO postgres", "function authenticate acts with the rights"),
        (
            "DO $$BEGIN EXECUTE format('ALTER DATABASE %I SET app.tenant_id = %L', current_database(),"
            " '00000000-0000-0000-0000-000000000001'); END$$",
            "a connection begins as tenant 00000000-0000-0000-0000-000000000001",
        ),
    ],
)
def test_a_database_with_altered_isolation_is_not_opened(database: Urls, change: str, reason: str) -> None:
    with psycopg.connect(database.admin_url) as connection:
        connection.execute(change.encode())
    for url in (database.app_url, database.pipeline_url):
        with pytest.raises(StoreUnavailableError, match="refuses to start") as refusal:
            Database(url).open()
        assert reason in str(refusal.value)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ("GRANT SELECT ON memory.auth_events TO memory_app", "has SELECT on auth_events"),
        ("GRANT SELECT (subject) ON memory.auth_events TO memory_app", "has SELECT on auth_events"),
        ("GRANT SELECT ON memory.audit_runs TO memory_app", "has SELECT on audit_runs"),
        ("GRANT UPDATE (description) ON memory.roles TO memory_app", "has UPDATE on roles"),
        ("GRANT INSERT ON memory.role_permissions TO memory_app", "has INSERT on role_permissions"),
        (
            "CREATE TABLE memory.copied AS SELECT content FROM memory.messages;"
            "GRANT SELECT ON memory.copied TO memory_app",
            "has SELECT on copied",
        ),
    ],
)
def test_an_app_that_reaches_what_belongs_to_no_tenant_is_refused(shared_urls: Urls, change: str, reason: str) -> None:
    assert any(reason in problem for problem in problems_after(shared_urls, change, "memory_app"))
    # The pipeline sees every tenant by design.
    assert problems_after(shared_urls, change, "memory_pipeline") == []


@pytest.mark.parametrize(
    "harmless",
    [
        "CREATE FUNCTION memory.mine() RETURNS bigint LANGUAGE sql RETURN (SELECT count(*) FROM memory.messages)",
        "CREATE FUNCTION public.now_utc() RETURNS timestamp LANGUAGE sql RETURN now() AT TIME ZONE 'UTC'",
        "CREATE VIEW public.theirs AS SELECT content FROM memory.messages",  # that only its owner may read
        "CREATE FUNCTION public.theirs() RETURNS bigint LANGUAGE sql SECURITY DEFINER"
        " AS 'SELECT count(*) FROM memory.messages'; REVOKE EXECUTE ON FUNCTION public.theirs FROM PUBLIC",
        "CREATE INDEX another ON memory.messages (role)",
    ],
)
def test_what_leads_nowhere_is_no_reason_to_refuse(shared_urls: Urls, harmless: str) -> None:
    for role in ("memory_app", "memory_pipeline"):
        assert problems_after(shared_urls, harmless, role) == []


def test_a_view_with_the_rights_of_its_reader_is_no_reason_to_refuse(database: Urls) -> None:
    with psycopg.connect(database.admin_url) as connection:
        connection.execute("CREATE VIEW memory.mine WITH (security_invoker = true) AS SELECT * FROM memory.messages")
        connection.execute("GRANT SELECT ON memory.mine TO memory_app")
    with Database(database.app_url) as opened, opened.transaction() as connection:
        assert connection.execute("SELECT count(*) FROM memory.mine").fetchone() == (0,)


@contextmanager
def own_role(urls: Urls, servers: Servers, attributes: str, *memberships: str) -> Iterator[str]:
    """A role of this test alone (roles are the cluster's); yields the URL to connect as it."""
    name = f"role_{uuid4().hex[:12]}"
    with psycopg.connect(urls.admin_url, autocommit=True) as connection:
        connection.execute(f"CREATE ROLE {name} LOGIN {attributes}".encode())
        try:
            for membership in memberships:
                role, _, options = membership.partition(" ")
                connection.execute(f"GRANT {role} TO {name} {options}".encode())
            yield servers.postgres_url(name, urls.name)
        finally:
            connection.execute(f"DROP ROLE {name}".encode())


def test_a_superuser_is_refused(database: Urls) -> None:
    with pytest.raises(StoreUnavailableError, match="role postgres is a superuser or has BYPASSRLS"):
        Database(database.admin_url).open()


@pytest.mark.parametrize(
    ("attributes", "memberships", "reason"),
    [
        ("BYPASSRLS", ["memory_app"], "is a superuser or has BYPASSRLS"),
        ("", ["memory_app", "memory_owner"], "owns, or may become the owner of, tables: audit_findings"),
        ("", ["memory_app", "memory_owner WITH INHERIT FALSE"], "owns, or may become the owner of, tables"),
        ("", ["memory_app", "memory_pipeline"], "belongs to both memory_app and memory_pipeline"),
        ("", ["memory_app", "postgres"], "may become postgres, a superuser"),
    ],
)
def test_a_role_with_more_rights_than_it_should_have_is_refused(
    database: Urls, servers: Servers, attributes: str, memberships: list[str], reason: str
) -> None:
    with own_role(database, servers, attributes, *memberships) as url:
        with pytest.raises(StoreUnavailableError) as refusal:
            Database(url).open()
        assert reason in str(refusal.value)


def test_a_superuser_who_only_acts_as_the_app_is_refused(database: Urls, servers: Servers) -> None:
    with own_role(database, servers, "SUPERUSER") as url:
        name = psycopg.conninfo.conninfo_to_dict(url)["user"]
        with psycopg.connect(database.admin_url) as connection:
            connection.execute(f"ALTER ROLE {name} SET role = memory_app".encode())
        with pytest.raises(StoreUnavailableError, match=f"logs in as {name} and works as memory_app"):
            Database(url, role="memory_app").open()


def test_a_login_of_its_own_may_work_as_the_app(world: World, servers: Servers) -> None:
    tenant_id = world.acme["tenant_id"]
    assert isinstance(tenant_id, UUID)
    with (
        own_role(world.urls, servers, "", "memory_app") as url,
        Database(url, role="memory_app") as app,
        app.tenant_transaction(tenant_id) as connection,
    ):
        assert visible(connection, "messages") == {tenant_id}


def test_a_role_without_rights_is_told_which_to_take(database: Urls, servers: Servers) -> None:
    with (
        own_role(database, servers, "") as url,
        pytest.raises(SchemaVersionError, match="connect as memory_app or memory_pipeline"),
    ):
        Database(url).open()


def test_swapped_urls_are_refused(settings: Settings) -> None:
    swapped = settings.model_copy(
        update={
            "postgres_app_url": settings.postgres_pipeline_url,
            "postgres_pipeline_url": settings.postgres_app_url,
        }
    )
    with Pipeline(swapped) as pipeline:
        with pytest.raises(MemoryPipelineError, match="role memory_pipeline is not memory_app"):
            _ = pipeline.app_database
        with pytest.raises(MemoryPipelineError, match="role memory_app is not memory_pipeline"):
            _ = pipeline.database
