"""`identity`, `users`, `tenants` as an administrator types them, on real stores; and the development issuer's key."""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import psycopg
import pytest
from typer.testing import CliRunner

from memory_pipeline.cli import app
from memory_pipeline.commands import identity_groups
from memory_pipeline.local.issuer import (
    DEVELOPMENT_ISSUER,
    ensure_development_issuer,
    has_development_issuer,
    sign_token,
)
from memory_pipeline.model.errors import (
    ConflictError,
    ForbiddenError,
    InvalidRequestError,
    MemoryPipelineError,
    NotFoundError,
    SettingsError,
    UnauthenticatedError,
)
from memory_pipeline.serving.issuers import load_issuers
from memory_pipeline.serving.sessions import Sessions
from memory_pipeline.serving.tokens import TokenVerifier
from memory_pipeline.settings import Settings
from memory_pipeline.stores.postgres.database import Database
from memory_pipeline.stores.redis.manager import RedisManager
from memory_pipeline_tests.serving.identity_provider import ISSUER, SigningKey, issuer_at, jwks_server

KEY = SigningKey("key-1")

Run = Callable[..., str]


@pytest.fixture
def run(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Run a command on the test's stores and return what it prints; an error of ours is raised."""
    for name in ("home", "postgres_app_url", "postgres_pipeline_url", "redis_url", "chroma_url", "chroma_database"):
        monkeypatch.setenv(f"MEMORY_{name.upper()}", str(getattr(settings, name)))

    def run(*arguments: str) -> str:
        result = CliRunner().invoke(app, arguments, env={"COLUMNS": "250"})
        if isinstance(result.exception, MemoryPipelineError):
            raise result.exception
        assert result.exit_code == 0, result.output
        return result.stdout

    return run


@pytest.fixture
def home(settings: Settings) -> Path:
    """A home as `up` leaves it."""
    ensure_development_issuer(settings.home)
    return settings.home


@pytest.fixture
def sessions(settings: Settings) -> Iterator[Sessions]:
    """What the API asks, with the issuers of the home and one more."""
    assert settings.postgres_app_url is not None
    assert settings.redis_url is not None
    with (
        jwks_server(KEY) as server,
        Database(settings.postgres_app_url, role="memory_app") as database,
        RedisManager(settings.redis_url) as redis,
    ):
        ensure_development_issuer(settings.home)
        issuers = [*load_issuers(settings), issuer_at(server.url), issuer_at(server.url, issuer="https://two.example")]
        yield Sessions(database, redis, TokenVerifier(issuers))


def refusal(sessions: Sessions, token: str) -> str:
    with pytest.raises((UnauthenticatedError, ForbiddenError)) as refused:
        sessions.authenticate(token, uuid4())
    return str(refused.value.code)


def rows(settings: Settings, query: str) -> list[tuple[Any, ...]]:
    assert settings.postgres_admin_url is not None
    with psycopg.connect(settings.postgres_admin_url, options="-c search_path=memory,public") as connection:
        return connection.execute(query.encode()).fetchall()


# -- tokens to try things with --


def test_a_new_users_token_is_taken_by_the_api(run: Run, home: Path, sessions: Sessions, settings: Settings) -> None:
    token = run("users", "token", "--user", "Ana@Example.org", "--create")
    assert token.count("\n") == 1
    principal = sessions.authenticate(token.strip(), uuid4())
    assert (principal.email, principal.issuer) == ("ana@example.org", DEVELOPMENT_ISSUER)
    assert principal.subject == str(principal.user_id)
    assert rows(settings, "SELECT slug FROM tenants") == [("default",)]
    kinds = rows(settings, "SELECT kind FROM events ORDER BY event_id")
    assert kinds == [("tenant_added",), ("user_added",), ("identity_linked",)]
    (actor,) = rows(settings, "SELECT DISTINCT actor FROM events")[0]
    assert actor.startswith("cli:")


def test_another_token_of_a_user_is_the_same_user(run: Run, home: Path, sessions: Sessions, settings: Settings) -> None:
    run("users", "token", "--user", "ana@example.org", "--create", "--tenant", "acme")
    first = sessions.authenticate(run("users", "token", "--user", "ana@example.org").strip(), uuid4())
    answer = json.loads(run("users", "token", "--user", "ana@example.org", "--create", "--json", "--lifetime", "60"))
    second = sessions.authenticate(answer["token"], uuid4())
    assert second.user_id == first.user_id == UUID(answer["user_id"])
    assert first.session_hash != second.session_hash
    assert answer["tenant"] == "acme"
    assert rows(settings, "SELECT count(*) FROM users") == rows(settings, "SELECT count(*) FROM identities") == [(1,)]


def test_a_token_for_nobody_or_for_one_of_several_is_refused(run: Run, home: Path) -> None:
    with pytest.raises(NotFoundError):
        run("users", "token", "--user", "ana@example.org")
    for tenant in ("acme", "globex"):
        run("users", "token", "--user", "ana@example.org", "--tenant", tenant, "--create")
    for create in ([], ["--create"]):
        with pytest.raises(NotFoundError, match="acme, globex"):
            run("users", "token", "--user", "ana@example.org", *create)


def test_a_revoked_development_login_is_not_linked_again_by_the_way(run: Run, home: Path, sessions: Sessions) -> None:
    token = run("users", "token", "--user", "ana@example.org", "--create").strip()
    subject = sessions.authenticate(token, uuid4()).subject
    run("identity", "revoke", subject)
    with pytest.raises(ConflictError, match="identity link"):
        run("users", "token", "--user", "ana@example.org")
    assert refusal(sessions, token) == "identity_revoked"
    run("identity", "link", subject, "--user", "ana@example.org")
    assert refusal(sessions, token) == "session_revoked"
    again = run("users", "token", "--user", "ana@example.org").strip()
    assert sessions.authenticate(again, uuid4()).subject == subject


def test_without_a_development_issuer_nothing_is_created(run: Run, settings: Settings) -> None:
    with pytest.raises(SettingsError, match="no development issuer"):
        run("users", "token", "--user", "ana@example.org", "--create")
    assert rows(settings, "SELECT count(*) FROM users") == [(0,)]
    assert not has_development_issuer(settings.home)


def test_a_stack_that_trusts_other_issuers_gets_no_development_tokens(run: Run, settings: Settings) -> None:
    (settings.home / "issuers.json").write_text("[]")
    ensure_development_issuer(settings.home)
    assert (settings.home / "issuers.json").read_text() == "[]"
    with pytest.raises(SettingsError, match="does not trust"):
        run("users", "token", "--user", "ana@example.org", "--create")
    assert rows(settings, "SELECT count(*) FROM users") == [(0,)]


# -- the development issuer's key --


def test_the_development_key_is_readable_by_its_owner_alone(tmp_path: Path) -> None:
    earlier = os.umask(0)
    try:
        ensure_development_issuer(tmp_path)
    finally:
        os.umask(earlier)
    assert stat.S_IMODE((tmp_path / "issuer").stat().st_mode) == 0o700
    for path in (tmp_path / "issuer").iterdir():
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert "PRIVATE" not in (tmp_path / "issuer" / "jwks.json").read_text()
    assert '"d"' not in (tmp_path / "issuer" / "jwks.json").read_text()


def test_the_development_issuer_stays_when_it_is_asked_for_again(settings: Settings) -> None:
    ensure_development_issuer(settings.home)
    token = sign_token(settings.home, uuid4(), lifetime_seconds=60)
    ensure_development_issuer(settings.home)
    assert TokenVerifier(load_issuers(settings)).verify(token).issuer == DEVELOPMENT_ISSUER


def test_several_processes_that_make_the_issuer_at_once_make_one(settings: Settings) -> None:
    def make(_: int) -> str:
        ensure_development_issuer(settings.home)
        return sign_token(settings.home, uuid4(), lifetime_seconds=60)

    with ThreadPoolExecutor(8) as pool:
        tokens = list(pool.map(make, range(8)))
    verifier = TokenVerifier(load_issuers(settings))
    assert {verifier.verify(token).issuer for token in tokens} == {DEVELOPMENT_ISSUER}
    assert sorted(path.name for path in (settings.home / "issuer").iterdir()) == ["development.pem", "jwks.json"]


def test_a_key_that_others_could_read_is_not_used(tmp_path: Path) -> None:
    ensure_development_issuer(tmp_path)
    key = tmp_path / "issuer" / "development.pem"
    key.chmod(0o640)
    with pytest.raises(SettingsError, match="read by others"):
        sign_token(tmp_path, uuid4(), lifetime_seconds=60)
    key.chmod(0o600)
    key.write_text("not a key")
    with pytest.raises(SettingsError, match="not a private key"):
        sign_token(tmp_path, uuid4(), lifetime_seconds=60)


# -- identities --


def test_a_pending_login_is_listed_linked_and_revoked(run: Run, sessions: Sessions) -> None:
    token = KEY.sign(sub="auth0|ana", email="ana@example.org", email_verified=True)
    assert refusal(sessions, token) == "identity_pending"
    run("tenants", "add", "acme", "--name", "Acme Ltd")
    run("users", "add", "ana@example.org", "--tenant", "acme", "--name", "Ana")

    (pending,) = json.loads(run("identity", "pending", "--json"))
    assert (pending["issuer"], pending["subject"]) == (ISSUER, "auth0|ana")
    assert (pending["email_hint"], pending["tenant"]) == ("ana@example.org", None)
    *_, hint = run("identity", "pending").splitlines()
    assert hint == f"memory-pipeline identity link 'auth0|ana' --issuer {ISSUER} --user ana@example.org"

    assert "is linked" in run("identity", "link", "auth0|ana", "--user", "ana@example.org")
    assert "was already linked" in run("identity", "link", "auth0|ana", "--user", "ana@example.org")
    assert sessions.authenticate(token, uuid4()).display_name == "Ana"
    assert json.loads(run("identity", "pending", "--json")) == []
    (linked,) = json.loads(run("identity", "list", "--user", "ana@example.org", "--tenant", "acme", "--json"))
    assert (linked["state"], linked["email"]) == ("linked", "ana@example.org")
    assert json.loads(run("identity", "list", "--tenant", "other", "--json")) == []
    assert [user["identities"] for user in json.loads(run("users", "list", "--json"))] == [1]

    assert json.loads(run("identity", "revoke", "auth0|ana", "--json"))["sessions_ended"] == 1
    assert refusal(sessions, token) == "identity_revoked"
    assert len(json.loads(run("identity", "list", "--state", "revoked", "--json"))) == 1


def test_one_session_is_ended_and_the_others_of_its_user_go_on(run: Run, sessions: Sessions) -> None:
    run("tenants", "add", "acme")
    run("users", "add", "ana@example.org", "--tenant", "acme")
    run("identity", "link", "s", "--issuer", ISSUER, "--user", "ana@example.org", "--unseen")
    phone, laptop = KEY.sign(sub="s", jti="phone"), KEY.sign(sub="s", jti="laptop")
    of_phone = sessions.authenticate(phone, uuid4()).session_hash.hex()
    of_laptop = sessions.authenticate(laptop, uuid4()).session_hash.hex()

    listed = json.loads(run("identity", "sessions", "--user", "ana@example.org", "--json"))
    assert [session["session_hash"] for session in listed] == [of_laptop, of_phone]
    assert of_phone in run("identity", "sessions", "--user", "ana@example.org").replace("\n", "")
    assert json.loads(run("identity", "end-session", of_phone, "--json")) == {"session_hash": of_phone, "ended": True}
    assert refusal(sessions, phone) == "session_revoked"
    assert sessions.authenticate(laptop, uuid4()).email == "ana@example.org"
    assert "was already" in run("identity", "end-session", of_phone)
    listed = json.loads(run("identity", "sessions", "--user", "ana@example.org", "--json"))
    open_sessions = {session["session_hash"] for session in listed if session["revoked_at"] is None}
    assert (open_sessions, len(listed)) == ({of_laptop}, 2)


@pytest.mark.parametrize("session", ["", "abc", "g" * 64, "0" * 63])
def test_what_is_no_session_is_refused_with_where_to_find_one(run: Run, session: str) -> None:
    with pytest.raises(InvalidRequestError, match="identity sessions"):
        run("identity", "end-session", session)
    with pytest.raises(NotFoundError):
        run("identity", "end-session", "0" * 64)


def test_a_subject_of_several_issuers_has_to_be_named_with_one(run: Run, sessions: Sessions) -> None:
    for issuer in (ISSUER, "https://two.example"):
        assert refusal(sessions, KEY.sign(sub="s", iss=issuer)) == "identity_pending"
    run("tenants", "add", "acme")
    run("users", "add", "ana@example.org", "--tenant", "acme")
    with pytest.raises(NotFoundError, match="several issuers"):
        run("identity", "link", "s", "--user", "ana@example.org")
    run("identity", "link", "s", "--issuer", ISSUER, "--user", "ana@example.org")
    assert sessions.authenticate(KEY.sign(sub="s"), uuid4()).email == "ana@example.org"
    assert refusal(sessions, KEY.sign(sub="s", iss="https://two.example")) == "identity_pending"


def test_a_login_may_be_linked_before_it_comes_where_that_is_meant(run: Run, sessions: Sessions) -> None:
    run("tenants", "add", "acme")
    run("users", "add", "ana@example.org", "--tenant", "acme")
    for arguments in (["s"], ["s", "--issuer", ISSUER], ["s", "--unseen"]):
        with pytest.raises(NotFoundError):
            run("identity", "link", *arguments, "--user", "ana@example.org")
    run("identity", "link", "s", "--issuer", ISSUER, "--user", "ana@example.org", "--unseen")
    assert sessions.authenticate(KEY.sign(sub="s"), uuid4()).email == "ana@example.org"


def test_what_a_login_is_called_cannot_write_to_the_terminal(run: Run, sessions: Sessions) -> None:
    assert refusal(sessions, KEY.sign(sub="[/bold][red]x\x1b[2J")) == "identity_pending"
    shown = run("identity", "pending")
    assert "[/bold][red]x?[2J" in shown
    assert "\x1b[2J" not in shown


# -- users and tenants --


def test_users_and_tenants_are_added_once(run: Run) -> None:
    assert "acme is a tenant" in run("tenants", "add", "acme")
    assert "was already" in run("tenants", "add", "acme")
    assert "is a user of acme" in run("users", "add", "Ana@example.org", "--tenant", "acme")
    assert not json.loads(run("users", "add", "ana@example.org", "--tenant", "acme", "--json"))["added"]
    (user,) = json.loads(run("users", "list", "--tenant", "acme", "--json"))
    assert (user["email"], user["display_name"], user["roles"]) == ("ana@example.org", "Ana", ["member"])
    assert "ana@example.org" in run("users", "list")
    (tenant,) = json.loads(run("tenants", "list", "--json"))
    assert (tenant["slug"], tenant["status"], tenant["users"]) == ("acme", "active", 1)
    assert "acme" in run("tenants", "list")


@pytest.mark.parametrize(
    "arguments",
    [
        ["tenants", "add", "Not A Slug"],
        ["tenants", "suspend", "nobody"],
        ["users", "add", "ana@example.org", "--tenant", "nobody"],
        ["users", "add", "not an address", "--tenant", "acme"],
        ["users", "add", "ana@example.org", "--tenant", "acme", "--name", "x" * 2000],
        ["users", "disable", "nobody@example.org"],
        ["identity", "revoke", "nobody"],
        ["identity", "link", "s", "--user", "nobody@example.org"],
    ],
)
def test_what_is_not_there_or_cannot_be_is_an_error_for_people(run: Run, arguments: list[str]) -> None:
    run("tenants", "add", "acme")
    with pytest.raises(MemoryPipelineError) as refused:
        run(*arguments)
    assert refused.value.exit_code == 2
    assert str(refused.value).endswith(".")


def test_disabling_and_suspending_holds_at_once(run: Run, home: Path, sessions: Sessions) -> None:
    token = run("users", "token", "--user", "ana@example.org", "--create").strip()
    user_id = sessions.authenticate(token, uuid4()).user_id
    assert "is disabled" in run("users", "disable", "ana@example.org")
    assert "was already disabled" in run("users", "disable", "ana@example.org")
    assert refusal(sessions, token) == "user_disabled"
    assert json.loads(run("users", "enable", "ana@example.org", "--json"))["changed"]
    assert sessions.authenticate(token, uuid4()).user_id == user_id
    assert "is suspended" in run("tenants", "suspend", "default")
    assert refusal(sessions, token) == "tenant_suspended"
    assert json.loads(run("tenants", "activate", "default", "--json"))["changed"]
    assert sessions.authenticate(token, uuid4()).user_id == user_id


def test_every_command_has_an_example() -> None:
    for group in (identity_groups.identity, identity_groups.users, identity_groups.tenants):
        for command in group.registered_commands:
            assert command.callback is not None
            assert command.callback.__doc__ is not None
            assert "Example: `" in command.callback.__doc__
            assert f"memory-pipeline {group.info.name} {command.name}" in command.callback.__doc__
