"""`plugins` and `roles` on real Postgres and Redis: what they change, who is written down, and their exit codes."""

from __future__ import annotations

import json
import os
import pwd
import sys
from collections.abc import Callable, Iterator

import pytest

from memory_pipeline.cli import main
from memory_pipeline.commands import permissions as commands
from memory_pipeline.local.redis import RedisServer
from memory_pipeline.model.errors import ForbiddenError, InvalidRequestError, NotFoundError, WiringError
from memory_pipeline.model.identity import Principal
from memory_pipeline.serving.wiring import wired
from memory_pipeline.settings import Settings
from memory_pipeline.stages.pipeline import Pipeline
from memory_pipeline.stages.plugin_permissions import PluginGate
from memory_pipeline.stores.redis import keys
from memory_pipeline.stores.redis.manager import RedisManager
from memory_pipeline_tests.conftest import fresh_database
from memory_pipeline_tests.local.host import Servers
from memory_pipeline_tests.stages.principals import events_of, make_principal

ME = f"cli:{pwd.getpwuid(os.getuid()).pw_name}"
REMOTE = "embedder:openai"
LOCAL = "enricher:local"
LLM = "enricher:llm"


@pytest.fixture
def env(settings: Settings, servers: Servers, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """The environment of a command on the test's stores, also set in this process."""
    values = {
        "MEMORY_HOME": str(settings.home),
        "MEMORY_POSTGRES_ADMIN_URL": str(settings.postgres_admin_url),
        "MEMORY_POSTGRES_APP_URL": str(settings.postgres_app_url),
        "MEMORY_POSTGRES_PIPELINE_URL": str(settings.postgres_pipeline_url),
        "MEMORY_REDIS_URL": str(settings.redis_url),
        "MEMORY_CHROMA_URL": str(settings.chroma_url),
        "MEMORY_DAGSTER_POSTGRES_URL": servers.postgres_url(),
    }
    for name, value in values.items():
        monkeypatch.setenv(name, value)
    (settings.home / "dagster").mkdir()
    monkeypatch.setenv("DAGSTER_HOME", str(settings.home / "dagster"))
    return values


@pytest.fixture
def pipeline(settings: Settings, env: dict[str, str]) -> Iterator[Pipeline]:
    with Pipeline(settings) as opened:
        yield opened


@pytest.fixture
def redis(redis_url: str) -> Iterator[RedisManager]:
    with RedisManager(redis_url) as manager:
        yield manager


@pytest.fixture
def ana(pipeline: Pipeline) -> Principal:
    return make_principal(pipeline.database, "acme", "ana@acme.example")


@pytest.fixture
def gate(pipeline: Pipeline, redis: RedisManager) -> PluginGate:
    return PluginGate(pipeline.app_database, redis)


def runs(gate: PluginGate, principal: Principal, plugin: str) -> bool:
    try:
        gate.require(principal, plugin)
    except ForbiddenError:
        return False
    return True


def common_events(pipeline: Pipeline) -> list[tuple[str, str, dict[str, object]]]:
    with pipeline.database.transaction() as connection:
        rows = connection.execute("SELECT kind, actor, detail FROM auth_events ORDER BY event_id").fetchall()
    return [(kind, actor, detail) for kind, actor, detail in rows]


def listed(capsys: pytest.CaptureFixture[str]) -> list[dict[str, object]]:
    rows: list[dict[str, object]] = json.loads(capsys.readouterr().out)
    return rows


@pytest.fixture
def run(
    env: dict[str, str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., tuple[int, str, str]]:
    """Run a command line in this process; return its exit code, what it printed, and its errors."""

    def run(*arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["memory-pipeline", *arguments])
        with pytest.raises(SystemExit) as done:
            main()
        printed = capsys.readouterr()
        code = done.value.code
        assert isinstance(code, int)
        return code, printed.out, printed.err

    return run


def test_an_installed_plugin_runs_at_once_and_an_uninstalled_one_no_more(
    pipeline: Pipeline, gate: PluginGate, ana: Principal
) -> None:
    globex = make_principal(pipeline.database, "globex", "gil@globex.example")
    assert not runs(gate, ana, REMOTE)
    assert commands.install_command(REMOTE, "acme") == 0
    assert runs(gate, ana, REMOTE)
    assert not runs(gate, globex, REMOTE)
    assert commands.uninstall_command(REMOTE, "acme") == 0
    assert not runs(gate, ana, REMOTE)
    changes = [event for event in events_of(pipeline.database, ana.tenant_id) if event.kind != "plugin_refused"]
    assert [(event.kind, event.actor, event.detail) for event in changes] == [
        ("plugin_installed", ME, {"plugin": REMOTE}),
        ("plugin_uninstalled", ME, {"plugin": REMOTE}),
    ]
    assert changes[0].correlation_id != changes[1].correlation_id


def test_a_disabled_plugin_runs_for_nobody_until_it_is_enabled(
    pipeline: Pipeline, gate: PluginGate, ana: Principal
) -> None:
    globex = make_principal(pipeline.database, "globex", "gil@globex.example")
    assert runs(gate, ana, LOCAL)
    assert runs(gate, globex, LOCAL)
    commands.enable_command(LOCAL, enabled=False)
    assert not runs(gate, ana, LOCAL)
    assert not runs(gate, globex, LOCAL)
    commands.enable_command(LOCAL, enabled=True)
    assert runs(gate, ana, LOCAL)
    assert common_events(pipeline) == [
        ("plugin_disabled", ME, {"plugin": LOCAL}),
        ("plugin_enabled", ME, {"plugin": LOCAL}),
    ]


def test_a_registered_plugin_runs_once_it_is_installed(pipeline: Pipeline, gate: PluginGate, ana: Principal) -> None:
    assert not runs(gate, ana, LLM)
    commands.register_command(LLM, "asks a language model", default_install=False)
    assert not runs(gate, ana, LLM)
    commands.install_command(LLM, "acme")
    assert runs(gate, ana, LLM)
    assert common_events(pipeline) == [("plugin_registered", ME, {"plugin": LLM, "default_install": False})]


def test_registering_again_does_not_allow_what_was_denied(pipeline: Pipeline, gate: PluginGate, ana: Principal) -> None:
    commands.register_command(LLM, "asks a language model", default_install=False)
    commands.install_command(LLM, "acme")
    commands.deny_command("member", f"plugins:run:{LLM}")
    commands.register_command(LLM, "asks a language model", default_install=False)
    commands.register_command(LLM, "asks a better language model", default_install=True)
    assert not runs(gate, ana, LLM)
    assert [kind for kind, _, _ in common_events(pipeline)] == [
        "plugin_registered",
        "permission_denied",
        "plugin_described",
    ]
    fresh = make_principal(pipeline.database, "initech", "ian@initech.example")
    commands.allow_command("member", f"plugins:run:{LLM}")
    assert runs(gate, fresh, LLM)


def test_whether_a_plugin_costs_money_stays_as_it_was_said_until_it_is_said_otherwise(
    pipeline: Pipeline, capsys: pytest.CaptureFixture[str]
) -> None:
    def costs() -> bool:
        capsys.readouterr()
        commands.list_plugins_command(None, json=True)
        return {row["plugin"]: bool(row["costs"]) for row in json.loads(capsys.readouterr().out)}[LLM]

    commands.register_command(LLM, "asks a language model", default_install=False)
    assert not costs()
    commands.register_command(LLM, "asks a language model", default_install=False, costs=True)
    assert costs()
    commands.register_command(LLM, "asks another one", default_install=False)
    assert costs()
    commands.register_command(LLM, "asks another one", default_install=False, costs=False)
    assert not costs()
    assert common_events(pipeline)[1] == (
        "plugin_described",
        ME,
        {"plugin": LLM, "default_install": False, "costs": True},
    )


def test_a_role_given_or_taken_counts_at_once(
    pipeline: Pipeline, gate: PluginGate, redis: RedisManager, ana: Principal
) -> None:
    namesake = make_principal(pipeline.database, "globex", "ana@acme.example")
    assert runs(gate, ana, LOCAL)
    redis.warm_value(keys.auth(ana.user_id), ["memory:read"], 60)
    commands.revoke_command("member", "ana@acme.example", "acme")
    assert not runs(gate, ana, LOCAL)
    assert runs(gate, namesake, LOCAL)
    assert redis.get_value(keys.auth(ana.user_id), list, cache="auth") is None
    commands.grant_command("admin", "ana@acme.example", "acme")
    assert runs(gate, ana, LOCAL)
    changes = [event for event in events_of(pipeline.database, ana.tenant_id) if event.kind != "plugin_refused"]
    assert [(event.kind, event.actor, event.subject_id, event.detail) for event in changes] == [
        ("role_revoked", ME, ana.user_id, {"role": "member"}),
        ("role_granted", ME, ana.user_id, {"role": "admin"}),
    ]


def test_a_permission_taken_from_a_role_counts_at_once(gate: PluginGate, ana: Principal) -> None:
    assert runs(gate, ana, LOCAL)
    commands.deny_command("member", f"plugins:run:{LOCAL}")
    assert not runs(gate, ana, LOCAL)
    commands.allow_command("member", f"plugins:run:{LOCAL}")
    assert runs(gate, ana, LOCAL)


def test_a_command_run_again_changes_nothing_and_says_so(
    pipeline: Pipeline, ana: Principal, capsys: pytest.CaptureFixture[str]
) -> None:
    commands.install_command(REMOTE, "acme")
    assert "now" in capsys.readouterr().out
    commands.install_command(REMOTE, "acme")
    assert "as before" in capsys.readouterr().out
    assert len(events_of(pipeline.database, ana.tenant_id)) == 1


def test_lists_are_json_for_programs(ana: Principal, capsys: pytest.CaptureFixture[str]) -> None:
    commands.list_plugins_command(None, json=True)
    plugins = {row["plugin"]: row for row in listed(capsys)}
    assert plugins[LOCAL]["installed"] is None
    assert (plugins[LOCAL]["tenants"], plugins[REMOTE]["tenants"]) == (1, 0)
    assert plugins[LOCAL]["roles"] == ["admin", "member", "pipeline"]
    commands.list_plugins_command("acme", json=True)
    assert {row["plugin"]: row["installed"] for row in listed(capsys)} == {
        "embedder:minilm": True,
        "embedder:openai": False,
        "enricher:local": True,
        "summarizer:extractive": True,
    }
    commands.list_roles_command(None, None, json=True)
    roles = {row["role"]: row for row in listed(capsys)}
    assert roles["member"]["users"] == 1
    assert roles["reader"]["permissions"] == ["conversations:read", "memory:read"]
    commands.list_roles_command("ana@acme.example", None, json=True)
    assert [(row["role"], row["granted_by"]) for row in listed(capsys)] == [("member", "system:new-user")]


def test_lists_are_tables_for_people(ana: Principal, capsys: pytest.CaptureFixture[str]) -> None:
    commands.list_plugins_command("acme", json=False)
    commands.list_roles_command(None, None, json=False)
    commands.list_roles_command("ana@acme.example", None, json=False)
    shown = capsys.readouterr().out
    assert "Roles of ana@acme.example in acme" in shown
    assert "system:new-user" in shown


def test_names_that_do_not_exist_are_refused_with_those_that_do(pipeline: Pipeline, ana: Principal) -> None:
    with pytest.raises(NotFoundError, match=r"no plugin 'embedder:other'; there are embedder:minilm"):
        commands.install_command("embedder:other", "acme")
    with pytest.raises(NotFoundError, match="no tenant"):
        commands.install_command(REMOTE, "nobody")
    with pytest.raises(NotFoundError, match=r"no role 'god'; there are admin, member"):
        commands.grant_command("god", "ana@acme.example", None)
    with pytest.raises(NotFoundError, match="no permission 'all'"):
        commands.allow_command("member", "all")
    with pytest.raises(NotFoundError, match="no user"):
        commands.revoke_command("member", "nobody@acme.example", None)
    with pytest.raises(InvalidRequestError, match="no user can have it"):
        commands.grant_command("pipeline", "ana@acme.example", None)
    with pytest.raises(InvalidRequestError, match="can't be a plugin"):
        commands.register_command("enricher:A B", "x", default_install=False)
    assert events_of(pipeline.database, ana.tenant_id) == []
    assert common_events(pipeline) == []


def test_a_command_on_another_database_than_the_rest_is_refused(
    servers: Servers, migrated_template: str, ana: Principal, pipeline: Pipeline, settings: Settings
) -> None:
    with fresh_database(servers, migrated_template) as copy:
        moved = settings.model_copy(
            update={"postgres_app_url": copy.app_url, "postgres_pipeline_url": copy.pipeline_url}
        )
        with Pipeline(moved) as other, wired("worker", other), pytest.raises(WiringError, match=copy.name):
            commands.install_command(REMOTE, "acme")
    assert events_of(pipeline.database, ana.tenant_id) == []


def test_the_command_line_does_and_lists_what_it_is_told(
    run: Callable[..., tuple[int, str, str]], ana: Principal
) -> None:
    def done(*arguments: str) -> str:
        code, printed, errors = run(*arguments)
        assert code == 0, errors
        return printed

    said = f"{REMOTE} is installed for acme (now); cached answers dropped for 1 users\n"
    assert done("plugins", "install", REMOTE, "--tenant", "acme") == said
    done("plugins", "uninstall", LOCAL, "--tenant", "acme")
    done("plugins", "disable", "embedder:minilm")
    done("plugins", "disable", REMOTE)
    done("plugins", "enable", REMOTE)
    done("plugins", "register", LLM, "--description", "asks a language model", "--default-install")
    plugins = {row["plugin"]: row for row in json.loads(done("plugins", "list", "--tenant", "acme", "--json"))}
    assert [name for name, row in plugins.items() if row["installed"]] == [
        "embedder:minilm",
        REMOTE,
        "summarizer:extractive",
    ]
    assert [name for name, row in plugins.items() if not row["enabled"]] == ["embedder:minilm"]
    assert plugins[LLM]["default_install"] is True
    done("roles", "grant", "reader", "--user", ana.email)
    done("roles", "revoke", "member", "--user", ana.email, "--tenant", "acme")
    done("roles", "allow", "reader", "analytics:read")
    done("roles", "deny", "reader", "memory:read")
    assert [row["role"] for row in json.loads(done("roles", "list", "--user", ana.email, "--json"))] == ["reader"]
    roles = {row["role"]: row["permissions"] for row in json.loads(done("roles", "list", "--json"))}
    assert roles["reader"] == ["analytics:read", "conversations:read"]


def test_a_change_that_redis_was_not_told_of_ends_with_3_and_can_be_made_again(
    run: Callable[..., tuple[int, str, str]],
    ana: Principal,
    redis_server: RedisServer,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    redis_server.kill()
    monkeypatch.setenv("MEMORY_REDIS_URL", redis_server.url())
    code, _, errors = run("roles", "revoke", "member", "--user", ana.email)
    assert code == 3
    assert "the change is stored" in errors
    assert "Run the same command again" in errors

    redis_server.start()
    code, printed, _ = run("roles", "revoke", "member", "--user", ana.email)
    assert code == 0
    assert "(as before); cached answers dropped for 1 users" in printed
