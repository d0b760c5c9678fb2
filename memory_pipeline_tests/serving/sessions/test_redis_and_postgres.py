"""Sessions in Redis and in Postgres: which of them answers, and for how long."""

from __future__ import annotations

import time
from typing import Any
from uuid import uuid4

import psycopg
import pytest

from memory_pipeline.local.processes import free_port
from memory_pipeline.model.errors import ForbiddenError, StoreUnavailableError
from memory_pipeline.serving import sessions
from memory_pipeline.serving.administration import Administration
from memory_pipeline.serving.sessions import Sessions, session_hash
from memory_pipeline.stores.postgres import directory
from memory_pipeline.stores.postgres.permissions import Author
from memory_pipeline.stores.postgres.tenants import User
from memory_pipeline.stores.redis import keys
from memory_pipeline.stores.redis.manager import RedisManager
from memory_pipeline_tests.conftest import Database as DatabaseUrls
from memory_pipeline_tests.serving.identity_provider import ISSUER
from memory_pipeline_tests.serving.sessions.support import ACTOR, KEY, Stack, key_of, seconds_left


def test_a_known_session_is_answered_by_redis(stack: Stack, ana: User) -> None:
    stack.link("s", ana)
    token = KEY.sign(sub="s")
    stack.who(token)
    seen = stack.rows("SELECT last_seen_at FROM user_sessions")
    for _ in range(5):
        stack.who(token)
    assert stack.rows("SELECT last_seen_at FROM user_sessions") == seen
    with psycopg.connect(stack.admin.url) as connection:
        connection.execute("DELETE FROM memory.user_sessions")
    assert stack.who(token).user_id == ana.user_id
    assert stack.rows("SELECT count(*) FROM user_sessions") == [(0,)]


def test_a_session_that_redis_lost_is_answered_by_postgres_and_redis_has_it_again(stack: Stack, ana: User) -> None:
    stack.link("s", ana)
    token = KEY.sign(sub="s")
    stack.who(token)
    stack.client.flushdb()
    assert stack.who(token).user_id == ana.user_id
    assert stack.client.exists(key_of(token), keys.auth(ana.user_id)) == 2


def test_sessions_live_as_long_as_they_are_used_but_never_longer_than_their_token(stack: Stack, ana: User) -> None:
    stack.link("s", ana)
    stack.sessions = Sessions(stack.app, stack.manager, stack.verifier, session_seconds=300)
    token = KEY.sign(sub="s")
    stack.who(token)
    assert 295 <= seconds_left(stack, key_of(token)) <= 300
    stack.client.expire(key_of(token), 20)
    stack.who(token)
    assert 295 <= seconds_left(stack, key_of(token)) <= 300
    short = KEY.sign(sub="s", exp=int(time.time()) + 100)
    stack.who(short)
    stack.who(short)
    assert 95 <= seconds_left(stack, key_of(short)) <= 100 + stack.verifier.leeway
    nearly_over = KEY.sign(sub="s", exp=int(time.time()) - int(stack.verifier.leeway) + 2)
    stack.who(nearly_over)
    assert 0 < seconds_left(stack, key_of(nearly_over)) <= 2
    for key in stack.client.scan_iter():
        family = keys.family_of(key.decode())
        assert family is not None
        assert 0 < seconds_left(stack, key.decode()) <= (family.seconds or 0)


def test_with_redis_away_postgres_answers(stack: Stack, ana: User) -> None:
    stack.link("s", ana)
    with RedisManager(f"redis://127.0.0.1:{free_port()}/0") as away:
        alone = Sessions(stack.app, away, stack.verifier)
        for _ in range(3):
            assert alone.authenticate(KEY.sign(sub="s"), uuid4()).user_id == ana.user_id
        with pytest.raises(ForbiddenError):
            alone.authenticate(KEY.sign(sub="stranger"), uuid4())


def test_an_unreadable_value_in_redis_is_replaced(stack: Stack, ana: User) -> None:
    stack.link("s", ana)
    token = KEY.sign(sub="s")
    for junk in (b"", b"{", b'{"tenant_id": 7}', b"null", b"\xff"):
        for key in (key_of(token), keys.auth(ana.user_id)):
            stack.client.set(key, junk, ex=100)
        assert stack.who(token).user_id == ana.user_id
        assert stack.client.get(key_of(token)) != junk
        assert stack.client.get(keys.auth(ana.user_id)) != junk


def test_a_value_of_another_identity_or_tenant_in_redis_is_not_believed(stack: Stack, ana: User) -> None:
    stack.link("s", ana)
    ben = stack.add_user("ben@example.org", "globex")
    stack.link("b", ben)
    token, other = KEY.sign(sub="s"), KEY.sign(sub="b")
    stack.who(token)
    stack.who(other)
    of_ben: Any = stack.client.get(key_of(other))
    profile_of_ben: Any = stack.client.get(keys.auth(ben.user_id))
    stack.client.set(key_of(token), of_ben, ex=100)
    stack.client.set(keys.auth(ana.user_id), profile_of_ben, ex=100)
    principal = stack.who(token)
    assert (principal.user_id, principal.email) == (ana.user_id, ana.email)


def test_the_token_is_verified_though_its_session_is_known(stack: Stack, ana: User) -> None:
    stack.link("s", ana)
    token = KEY.sign(sub="s")
    stack.who(token)
    signed = token.rpartition(".")[0]
    assert stack.refusal(signed + ".") == "token_signature"
    assert stack.refusal(signed) == "token_malformed"


def test_a_revocation_redis_could_not_be_told_is_an_error_that_says_so(stack: Stack, ana: User) -> None:
    stack.link("s", ana)
    token = KEY.sign(sub="s")
    stack.who(token)
    with RedisManager(f"redis://127.0.0.1:{free_port()}/0") as away:
        with pytest.raises(StoreUnavailableError, match="do the same again"):
            Administration(stack.admin, away, Author(ACTOR, uuid4())).revoke_identity(ISSUER, "s")
        assert stack.rows("SELECT state FROM identities") == [("revoked",)]
    assert stack.revoke("s") == 0
    assert stack.refusal(token) == "identity_revoked"


def test_a_revocation_redis_missed_ends_the_session_when_its_activity_is_next_recorded(
    stack: Stack, ana: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    stack.link("s", ana)
    token = KEY.sign(sub="s")
    stack.who(token)
    with psycopg.connect(stack.admin.url) as connection:
        connection.execute("UPDATE memory.identities SET state = 'revoked'")
    assert stack.who(token).user_id == ana.user_id
    monkeypatch.setattr(sessions, "_ACTIVITY_SECONDS", 0.0)
    assert stack.refusal(token) == "identity_revoked"
    monkeypatch.undo()
    assert stack.refusal(token) == "identity_revoked"


def test_activity_is_recorded_in_postgres_now_and_then(
    stack: Stack, ana: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    stack.link("s", ana)
    token = KEY.sign(sub="s")
    stack.who(token)
    (first,) = stack.rows("SELECT last_seen_at FROM user_sessions")
    monkeypatch.setattr(sessions, "_ACTIVITY_SECONDS", 0.0)
    stack.who(token)
    (later,) = stack.rows("SELECT last_seen_at FROM user_sessions")
    assert later > first


def test_expired_sessions_are_deleted_and_revocations_outlast_their_tokens(
    stack: Stack, ana: User, database: DatabaseUrls
) -> None:
    stack.link("s", ana)
    token = KEY.sign(sub="s")
    stack.who(token)
    stack.administration.revoke_session(session_hash(token))
    with psycopg.connect(database.admin_url) as owner:
        owner.execute(
            "INSERT INTO memory.user_sessions (session_hash, issuer, subject, tenant_id, user_id, expires_at)"
            " SELECT sha256('old'), issuer, subject, tenant_id, user_id, now() - interval '2 hours'"
            " FROM memory.user_sessions"
        )
    with stack.admin.transaction() as connection:
        assert directory.delete_expired_sessions(connection) == 1
    assert stack.refusal(token) == "session_revoked"
