"""What makes a process refuse to start: whatever was changed about roles, policies and what leads around them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from uuid import uuid4

import psycopg
import pytest
from psycopg import sql as composed

from memory_pipeline.model.errors import MemoryPipelineError, SchemaVersionError, StoreUnavailableError
from memory_pipeline.settings import Settings
from memory_pipeline.stages.pipeline import Pipeline
from memory_pipeline.stores.postgres.database import Database
from memory_pipeline.stores.postgres.isolation import isolation_problems
from memory_pipeline.stores.postgres.tenants import ensure_tenant
from memory_pipeline_tests.conftest import Database as Urls
from memory_pipeline_tests.conftest import fresh_database
from memory_pipeline_tests.local.host import Servers


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


def test_a_login_of_its_own_may_work_as_the_app(database: Urls, servers: Servers) -> None:
    with Database(database.pipeline_url) as pipeline, pipeline.transaction() as connection:
        tenant_id, _other = (ensure_tenant(connection, slug) for slug in ("acme", "globex"))
    with (
        own_role(database, servers, "", "memory_app") as url,
        Database(url, role="memory_app") as app,
        app.tenant_transaction(tenant_id) as connection,
    ):
        assert connection.execute("SELECT slug FROM tenants").fetchall() == [("acme",)]


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
