"""Which plugin runs for whom, on real Postgres and Redis: each condition alone, and decisions after a change."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from uuid import UUID, uuid4

import psycopg
import pytest

from memory_pipeline import metrics
from memory_pipeline.local.redis import RedisServer
from memory_pipeline.model.errors import ForbiddenError, StoreUnavailableError
from memory_pipeline.model.identity import Principal
from memory_pipeline.serving.permissions import Affected, make_change
from memory_pipeline.stages.plugin_permissions import PluginDecision, PluginGate
from memory_pipeline.stages.refusals import RefusalLog
from memory_pipeline.stores.postgres import permission_changes as changes
from memory_pipeline.stores.postgres.database import Connection, Database
from memory_pipeline.stores.postgres.permissions import Author, missing_for_plugin
from memory_pipeline.stores.postgres.plugins import permitted_tenants
from memory_pipeline.stores.redis import keys
from memory_pipeline.stores.redis.manager import RedisManager
from memory_pipeline_tests.conftest import Database as Urls
from memory_pipeline_tests.stages.principals import events_of, make_principal

AUTHOR = Author("cli:test", UUID(int=7))
LOCAL = "enricher:local"
REMOTE = "embedder:openai"


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
    return make_principal(pipeline, "acme", "ana@acme.example")


def change(pipeline: Database, work: Callable[[Connection], bool]) -> None:
    with pipeline.transaction() as connection:
        assert work(connection)


def refusal(gate: PluginGate, principal: Principal, plugin: str) -> ForbiddenError:
    with pytest.raises(ForbiddenError) as refused:
        gate.require(principal, plugin)
    assert refused.value.code == "plugin_forbidden"
    assert refused.value.permission == f"plugins:run:{plugin}"
    return refused.value


def test_a_default_plugin_runs_for_a_new_user(app: Database, redis: RedisManager, ana: Principal) -> None:
    PluginGate(app, redis).require(ana, LOCAL)
    PluginGate(app, None).require(ana, LOCAL)


@pytest.mark.parametrize(
    "plugin", ["enricher:unheard-of", "nonsense", "enricher:local\n", "enricher:LOCAL", "a\0b", ""]
)
def test_what_is_not_registered_is_refused(app: Database, redis: RedisManager, ana: Principal, plugin: str) -> None:
    assert "not registered" in str(refusal(PluginGate(app, redis), ana, plugin))


def test_what_is_disabled_is_refused(app: Database, pipeline: Database, ana: Principal) -> None:
    change(pipeline, lambda connection: changes.set_plugin_enabled(connection, LOCAL, AUTHOR, enabled=False))
    message = str(refusal(PluginGate(app, None), ana, LOCAL))
    assert "not enabled" in message
    assert "not installed" not in message
    assert "not permitted" not in message


def test_what_is_not_installed_is_refused_though_another_tenant_has_it(
    app: Database, pipeline: Database, ana: Principal
) -> None:
    globex = make_principal(pipeline, "globex", "gil@globex.example")
    change(pipeline, lambda connection: changes.install_plugin(connection, globex.tenant_id, REMOTE, AUTHOR))
    gate = PluginGate(app, None)
    gate.require(globex, REMOTE)
    message = str(refusal(gate, ana, REMOTE))
    assert "not installed" in message
    assert "not permitted" not in message


def test_what_no_role_of_the_user_permits_is_refused(app: Database, pipeline: Database, ana: Principal) -> None:
    change(pipeline, lambda connection: changes.revoke_role(connection, ana.tenant_id, ana.user_id, "member", AUTHOR))
    message = str(refusal(PluginGate(app, None), ana, LOCAL))
    assert "not permitted to any role of yours (plugins:run:enricher:local)" in message
    assert "not installed" not in message


def test_everything_that_is_missing_is_named(app: Database, pipeline: Database, ana: Principal) -> None:
    change(pipeline, lambda connection: changes.set_plugin_enabled(connection, REMOTE, AUTHOR, enabled=False))
    message = str(refusal(PluginGate(app, None), ana, REMOTE))
    assert "not enabled" in message
    assert "not installed" in message


def test_a_refusal_is_an_event_of_the_tenant_with_its_correlation_id(
    app: Database, pipeline: Database, ana: Principal
) -> None:
    correlation_id = uuid4()
    with pytest.raises(ForbiddenError):
        PluginGate(app, None).require(ana, REMOTE, correlation_id=correlation_id)
    (event,) = events_of(pipeline, ana.tenant_id)
    assert (event.kind, event.actor, event.subject_id) == ("plugin_refused", ana.actor, ana.user_id)
    assert event.correlation_id == correlation_id
    assert event.detail == {
        "plugin": REMOTE,
        "permission": f"plugins:run:{REMOTE}",
        "missing": ["installed"],
        "refusals": 1,
    }


def test_a_flood_of_refusals_is_one_event_until_the_reason_changes(
    app: Database, pipeline: Database, ana: Principal
) -> None:
    gate = PluginGate(app, None, refusals=RefusalLog(app, seconds=1e9))
    for _ in range(20):
        refusal(gate, ana, REMOTE)
    change(pipeline, lambda connection: changes.set_plugin_enabled(connection, REMOTE, AUTHOR, enabled=False))
    refusal(gate, ana, REMOTE)
    missing = [event.detail["missing"] for event in events_of(pipeline, ana.tenant_id)]
    assert missing == [["installed"], ["enabled", "installed"]]


def test_answers_are_counted(app: Database, ana: Principal) -> None:
    def counted(answer: str) -> float:
        return metrics.REGISTRY.get_sample_value("memory_rbac_validations_total", {"answer": answer}) or 0

    before = counted("allowed"), counted("not_installed")
    gate = PluginGate(app, None)
    gate.require(ana, LOCAL)
    refusal(gate, ana, REMOTE)
    assert (counted("allowed"), counted("not_installed")) == (before[0] + 1, before[1] + 1)


# -- the cache --


def test_a_decision_is_answered_from_redis_for_five_minutes(
    app: Database, pipeline: Database, redis: RedisManager, ana: Principal
) -> None:
    gate = PluginGate(app, redis)
    gate.require(ana, LOCAL)
    key = keys.rbac(ana.user_id, LOCAL)
    assert 290 <= redis.queue(lambda client: client.ttl(key)) <= 300
    # Changed behind the commands' back: only Postgres knows, and it is not asked.
    change(pipeline, lambda connection: changes.uninstall_plugin(connection, ana.tenant_id, LOCAL, AUTHOR))
    gate.require(ana, LOCAL)


@pytest.mark.parametrize("runs_before", [True, False])
def test_a_decision_cached_before_a_change_is_not_used_after_it(
    app: Database, pipeline: Database, redis: RedisManager, ana: Principal, runs_before: bool
) -> None:
    gate = PluginGate(app, redis)
    plugin = LOCAL if runs_before else REMOTE
    affected = Affected(plugins=(plugin,), permissions=False, tenant_id=ana.tenant_id)
    if runs_before:
        gate.require(ana, plugin)
        make_change(pipeline, redis, lambda c: changes.uninstall_plugin(c, ana.tenant_id, plugin, AUTHOR), affected)
        refusal(gate, ana, plugin)
    else:
        refusal(gate, ana, plugin)
        make_change(pipeline, redis, lambda c: changes.install_plugin(c, ana.tenant_id, plugin, AUTHOR), affected)
        gate.require(ana, plugin)


def test_a_reader_that_was_under_way_does_not_bring_the_old_decision_back(
    app: Database, pipeline: Database, redis: RedisManager, ana: Principal
) -> None:
    with app.tenant_transaction(ana.tenant_id) as connection:
        seen = missing_for_plugin(connection, ana.tenant_id, ana.user_id, LOCAL)
    make_change(
        pipeline,
        redis,
        lambda connection: changes.uninstall_plugin(connection, ana.tenant_id, LOCAL, AUTHOR),
        Affected(plugins=(LOCAL,), permissions=False, tenant_id=ana.tenant_id),
    )
    # What the gate does once it has read.
    redis.warm_value(keys.rbac(ana.user_id, LOCAL), PluginDecision(tenant_id=ana.tenant_id, missing=seen), 300)
    refusal(PluginGate(app, redis), ana, LOCAL)


def test_a_decision_of_another_tenant_is_not_believed(app: Database, redis: RedisManager, ana: Principal) -> None:
    decision = PluginDecision(tenant_id=uuid4(), missing=())
    redis.warm_value(keys.rbac(ana.user_id, REMOTE), decision, 300)
    refusal(PluginGate(app, redis), ana, REMOTE)


def test_postgres_answers_while_redis_is_away(app: Database, ana: Principal, redis_server: RedisServer) -> None:
    with RedisManager(redis_server.url()) as redis:
        gate = PluginGate(app, redis)
        redis_server.kill()
        gate.require(ana, LOCAL)
        assert "not installed" in str(refusal(gate, ana, REMOTE))


def test_nothing_runs_where_neither_redis_nor_postgres_can_say(redis: RedisManager, ana: Principal) -> None:
    nowhere = Database("postgresql://memory_app@127.0.0.1:1/memory")
    with pytest.raises(StoreUnavailableError):
        PluginGate(nowhere, redis).require(ana, LOCAL)


# -- the stages' question --


def test_stages_may_run_a_plugin_for_the_tenants_that_have_it(pipeline: Database, ana: Principal) -> None:
    globex = make_principal(pipeline, "globex", "gil@globex.example")
    change(pipeline, lambda connection: changes.install_plugin(connection, globex.tenant_id, REMOTE, AUTHOR))
    with pipeline.transaction() as connection:
        assert set(permitted_tenants(connection, LOCAL)) == {ana.tenant_id, globex.tenant_id}
        assert set(permitted_tenants(connection, REMOTE)) == {globex.tenant_id}
        assert set(permitted_tenants(connection, "enricher:unheard-of")) == set()


@pytest.mark.parametrize(
    "work",
    [
        lambda connection, tenant: changes.set_plugin_enabled(connection, LOCAL, AUTHOR, enabled=False),
        lambda connection, tenant: changes.uninstall_plugin(connection, tenant, LOCAL, AUTHOR),
        lambda connection, tenant: changes.deny(connection, "pipeline", f"plugins:run:{LOCAL}", AUTHOR),
    ],
    ids=["disabled", "uninstalled", "denied"],
)
def test_stages_may_run_nothing_that_is_no_longer_allowed(
    pipeline: Database, ana: Principal, work: Callable[[Connection, UUID], bool]
) -> None:
    change(pipeline, lambda connection: work(connection, ana.tenant_id))
    with pipeline.transaction() as connection:
        assert set(permitted_tenants(connection, LOCAL)) == set()


def test_the_app_sees_what_is_permitted_to_its_own_tenant_alone(
    app: Database, pipeline: Database, ana: Principal
) -> None:
    make_principal(pipeline, "globex", "gil@globex.example")
    with app.tenant_transaction(ana.tenant_id) as connection:
        assert set(permitted_tenants(connection, LOCAL)) == {ana.tenant_id}


# -- who may change it --


@pytest.mark.parametrize(
    "statement",
    [
        "INSERT INTO user_roles (tenant_id, user_id, role, granted_by)"
        " VALUES (%(tenant_id)s, %(user_id)s, 'admin', 'me')",
        "UPDATE user_roles SET role = 'admin' WHERE user_id = %(user_id)s",
        "INSERT INTO role_permissions (role, permission) VALUES ('member', 'analytics:read')",
        "INSERT INTO plugin_installs (tenant_id, plugin, installed_by) VALUES (%(tenant_id)s, 'embedder:openai', 'me')",
        "UPDATE plugin_registry SET enabled = true",
        "INSERT INTO permissions (permission, description) VALUES ('everything', '')",
        "INSERT INTO roles (role, description) VALUES ('god', '')",
        "DELETE FROM user_roles",
    ],
)
def test_the_app_can_give_itself_nothing(app: Database, ana: Principal, statement: str) -> None:
    with (
        pytest.raises(psycopg.errors.InsufficientPrivilege),
        app.tenant_transaction(ana.tenant_id) as connection,
    ):
        connection.execute(statement.encode(), {"tenant_id": ana.tenant_id, "user_id": ana.user_id})


def test_the_app_does_not_see_the_roles_of_another_tenant(app: Database, pipeline: Database, ana: Principal) -> None:
    make_principal(pipeline, "globex", "gil@globex.example")
    with app.tenant_transaction(ana.tenant_id) as connection:
        assert connection.execute("SELECT user_id FROM user_roles").fetchall() == [(ana.user_id,)]
