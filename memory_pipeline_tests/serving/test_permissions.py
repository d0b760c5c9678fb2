"""What a caller may do on real Postgres and Redis: refusals and their events, and changes that caches can't outlive."""

from __future__ import annotations

from collections.abc import Iterator
from uuid import UUID, uuid4

import pytest

from memory_pipeline.local.redis import RedisServer
from memory_pipeline.model.errors import ForbiddenError, StoreUnavailableError
from memory_pipeline.model.identity import Principal
from memory_pipeline.serving.permissions import Affected, Change, make_change, require_permission
from memory_pipeline.stages.refusals import RefusalLog
from memory_pipeline.stores.postgres.database import Database
from memory_pipeline.stores.postgres.permission_changes import allow, deny, grant_role
from memory_pipeline.stores.postgres.permissions import PAGE_USERS, Author, affected_users
from memory_pipeline.stores.postgres.tenants import ensure_tenant, ensure_user
from memory_pipeline.stores.redis import keys
from memory_pipeline.stores.redis.manager import RedisManager
from memory_pipeline_tests.conftest import Database as Urls
from memory_pipeline_tests.stages.principals import events_of, make_principal

NOWHERE = "postgresql://memory_app@127.0.0.1:1/memory"
AUTHOR = Author("cli:test", UUID(int=7))


@pytest.fixture
def pipeline(database: Urls) -> Iterator[Database]:
    with Database(database.pipeline_url, role="memory_pipeline") as opened:
        yield opened


@pytest.fixture
def app(database: Urls) -> Iterator[Database]:
    with Database(database.app_url, role="memory_app") as opened:
        yield opened


@pytest.fixture
def redis(redis_url: str) -> Iterator[RedisManager]:
    with RedisManager(redis_url) as manager:
        yield manager


@pytest.fixture
def ana(pipeline: Database) -> Principal:
    return make_principal(pipeline, "acme", "ana@acme.example", permissions={"messages:write"})


def test_what_is_permitted_passes_and_leaves_no_event(app: Database, pipeline: Database, ana: Principal) -> None:
    require_permission(ana, "messages:write", RefusalLog(app))
    assert events_of(pipeline, ana.tenant_id) == []


def test_a_refusal_names_the_permission_and_is_an_event(app: Database, pipeline: Database, ana: Principal) -> None:
    correlation_id = uuid4()
    with pytest.raises(ForbiddenError, match="analytics:read") as refusal:
        require_permission(ana, "analytics:read", RefusalLog(app), correlation_id=correlation_id)
    assert (refusal.value.code, refusal.value.permission) == ("forbidden", "analytics:read")
    (event,) = events_of(pipeline, ana.tenant_id)
    assert (event.kind, event.actor, event.subject_id) == ("permission_refused", ana.actor, ana.user_id)
    assert event.correlation_id == correlation_id
    assert event.detail == {"permission": "analytics:read", "refusals": 1}


def test_a_refusal_stands_without_postgres(ana: Principal) -> None:
    with pytest.raises(ForbiddenError, match="analytics:read"):
        require_permission(ana, "analytics:read", RefusalLog(Database(NOWHERE)))


def test_a_flood_of_refusals_is_one_event(app: Database, pipeline: Database, ana: Principal) -> None:
    refusals = RefusalLog(app, seconds=1e9)
    for permission in ["analytics:read"] * 50 + ["memory:read"] * 50:
        with pytest.raises(ForbiddenError):
            require_permission(ana, permission, refusals)
    assert [event.detail["permission"] for event in events_of(pipeline, ana.tenant_id)] == [
        "analytics:read",
        "memory:read",
    ]


def test_a_refusal_stands_where_its_event_can_not_be_written_and_the_event_comes_later(
    database: Urls, pipeline: Database, ana: Principal
) -> None:
    with Database(database.app_url, pool_size=1, wait_seconds=0.1) as app:
        refusals = RefusalLog(app, seconds=0)
        with app.transaction(), pytest.raises(ForbiddenError):
            require_permission(ana, "analytics:read", refusals)
        with pytest.raises(ForbiddenError):
            require_permission(ana, "analytics:read", refusals)
    assert [event.detail["refusals"] for event in events_of(pipeline, ana.tenant_id)] == [2]


def test_a_change_drops_what_is_cached_of_everyone_it_touches_and_of_nobody_else(
    pipeline: Database, redis: RedisManager
) -> None:
    reader = make_principal(pipeline, "acme", "rea@acme.example")
    far_reader = make_principal(pipeline, "globex", "rea@globex.example")
    member = make_principal(pipeline, "acme", "mem@acme.example")
    with pipeline.transaction() as connection:
        for user in (reader, far_reader):
            grant_role(connection, user.tenant_id, user.user_id, "reader", AUTHOR)
    for user in (reader, far_reader, member):
        redis.warm_value(keys.auth(user.user_id), ["memory:read"], 60)

    change = make_change(
        pipeline,
        redis,
        lambda connection: allow(connection, "reader", "analytics:read", AUTHOR),
        Affected(plugins=(), permissions=True, role="reader"),
    )

    assert change == Change(changed=True, users=2)
    cached = {user.email: redis.get_value(keys.auth(user.user_id), list, cache="auth") for user in (reader, far_reader)}
    assert cached == {"rea@acme.example": None, "rea@globex.example": None}
    assert redis.get_value(keys.auth(member.user_id), list, cache="auth") == ["memory:read"]


def test_a_change_made_again_changes_nothing_and_drops_again(pipeline: Database, redis: RedisManager) -> None:
    ana = make_principal(pipeline, "acme", "ana@acme.example")
    affected = Affected(plugins=(), permissions=True, role="member")

    def denied() -> Change:
        return make_change(
            pipeline, redis, lambda connection: deny(connection, "member", "conversations:delete", AUTHOR), affected
        )

    assert denied() == Change(changed=True, users=1)
    redis.drop_values(keys.auth(ana.user_id))
    redis.cache(lambda client: client.set(keys.auth(ana.user_id), b'["conversations:delete"]'), None)
    assert denied() == Change(changed=False, users=1)
    assert redis.get_value(keys.auth(ana.user_id), list, cache="auth") is None
    with pipeline.transaction() as connection:
        kinds = connection.execute("SELECT kind, actor FROM auth_events").fetchall()
    assert kinds == [("permission_denied", "cli:test")]


def test_a_change_reaches_thousands_of_users(pipeline: Database, redis: RedisManager) -> None:
    many = PAGE_USERS + 1
    with pipeline.transaction() as connection:
        tenant_id = ensure_tenant(connection, "acme")
        connection.execute(
            "INSERT INTO users (tenant_id, email, display_name) SELECT %s, n || '@acme.example', 'X'"
            " FROM generate_series(1, %s) n",
            [tenant_id, many],
        )
        ensure_user(connection, ensure_tenant(connection, "globex"), "x@globex.example", "X")
        assert [len(page) for page in affected_users(connection)] == [PAGE_USERS, 2]
        assert [len(page) for page in affected_users(connection, tenant_id=tenant_id)] == [PAGE_USERS, 1]
        users = {user for page in affected_users(connection, tenant_id=tenant_id) for user in page}
    change = make_change(
        pipeline,
        redis,
        lambda connection: deny(connection, "member", "memory:read", AUTHOR),
        Affected(plugins=None, permissions=True, tenant_id=tenant_id, role="member"),
    )
    assert change == Change(changed=True, users=many)
    assert redis.queue(lambda client: client.dbsize()) == many * 5  # four plugins and the permissions of each
    assert all(redis.was_dropped(keys.auth(user)) for user in list(users)[::100])


def test_a_change_that_redis_was_not_told_of_says_so_and_stays(pipeline: Database, redis_server: RedisServer) -> None:
    make_principal(pipeline, "acme", "ana@acme.example")

    def changed() -> Change:
        with RedisManager(redis_server.url()) as redis:
            return make_change(
                pipeline,
                redis,
                lambda connection: deny(connection, "member", "memory:read", AUTHOR),
                Affected(plugins=(), permissions=True, role="member"),
            )

    redis_server.kill()
    with pytest.raises(StoreUnavailableError, match=r"the change is stored.*Run the same command again") as failure:
        changed()
    assert failure.value.exit_code == 3
    redis_server.start()
    assert changed() == Change(changed=False, users=1)
