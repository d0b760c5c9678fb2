"""Who a token stands for: pending, linked, revoked; in Redis and in Postgres, also where requests race each other."""

from __future__ import annotations

import base64
import contextlib
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any
from uuid import UUID, uuid4

import psycopg
import pytest
import redis

from memory_pipeline.local.processes import free_port
from memory_pipeline.model.errors import (
    ConflictError,
    ForbiddenError,
    InvalidRequestError,
    NotFoundError,
    StoreUnavailableError,
    UnauthenticatedError,
)
from memory_pipeline.model.identity import Principal
from memory_pipeline.serving import sessions
from memory_pipeline.serving.administration import Administration
from memory_pipeline.serving.auth_refusals import PER_MINUTE, AuthRefusals
from memory_pipeline.serving.sessions import Sessions, session_hash
from memory_pipeline.serving.tokens import TokenVerifier
from memory_pipeline.stores.postgres import directory
from memory_pipeline.stores.postgres.database import Database
from memory_pipeline.stores.postgres.permissions import Author
from memory_pipeline.stores.postgres.tenants import User, find_user
from memory_pipeline.stores.redis import keys
from memory_pipeline.stores.redis.manager import RedisManager
from memory_pipeline_tests.conftest import Database as DatabaseUrls
from memory_pipeline_tests.faults.proxy import TcpProxy
from memory_pipeline_tests.serving.identity_provider import ISSUER, JwksServer, SigningKey, issuer_at, jwks_server

KEY = SigningKey("key-1")
OTHER = SigningKey("key-2")
OTHER_ISSUER = "https://other.example/"
TRUSTED_ISSUER = "https://trusted.example/"
ACTOR = "cli:test"
ORDER_OF_P256 = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551


@dataclass
class Stack:
    """What the API holds, and what an administrator holds."""

    app: Database
    admin: Database
    manager: RedisManager
    client: redis.Redis
    verifier: TokenVerifier
    sessions: Sessions

    @property
    def administration(self) -> Administration:
        return Administration(self.admin, self.manager, Author(ACTOR, uuid4()))

    def who(self, token: str) -> Principal:
        return self.sessions.authenticate(token, uuid4())

    def refusal(self, token: str) -> str:
        with pytest.raises((UnauthenticatedError, ForbiddenError)) as refused:
            self.who(token)
        return str(refused.value.code)

    def rows(self, query: Any, *values: Any) -> list[tuple[Any, ...]]:
        with self.admin.transaction() as connection:
            return connection.execute(query, values).fetchall()

    def link(self, subject: str, user: User, issuer: str = ISSUER) -> bool:
        return self.administration.link_identity(issuer, subject, user, unseen=True)

    def revoke(self, subject: str, issuer: str = ISSUER) -> int:
        return self.administration.revoke_identity(issuer, subject)

    def add_user(self, email: str, tenant: str) -> User:
        tenant_id, _ = self.administration.add_tenant(tenant)
        self.administration.add_user(tenant_id, email)
        with self.admin.transaction() as connection:
            return find_user(connection, email, tenant)


@pytest.fixture(scope="module")
def server() -> Iterator[JwksServer]:
    with jwks_server(KEY, OTHER) as running:
        yield running


@pytest.fixture
def stack(database: DatabaseUrls, redis_url: str, server: JwksServer) -> Iterator[Stack]:
    verifier = TokenVerifier(
        [
            issuer_at(server.url),
            issuer_at(server.url, issuer=OTHER_ISSUER),
            issuer_at(server.url, issuer=TRUSTED_ISSUER, trusted_email=True),
        ]
    )
    with ExitStack() as closing:
        app = closing.enter_context(Database(database.app_url, role="memory_app", pool_size=8))
        admin = closing.enter_context(Database(database.pipeline_url, role="memory_pipeline"))
        manager = closing.enter_context(RedisManager(redis_url))
        client = closing.enter_context(redis.Redis.from_url(redis_url))
        yield Stack(app, admin, manager, client, verifier, Sessions(app, manager, verifier))


@pytest.fixture
def ana(stack: Stack) -> User:
    return stack.add_user("ana@example.org", "acme")


def key_of(token: str) -> str:
    return keys.session(session_hash(token))


def seconds_left(stack: Stack, key: str) -> int:
    left: Any = stack.client.ttl(key)
    return int(left)


# -- pending, linked, revoked --


def test_an_unknown_subject_is_pending_and_gets_no_tenant(stack: Stack) -> None:
    tenants = stack.rows("SELECT count(*) FROM tenants")
    token = KEY.sign(sub="stranger", email="ana@example.org", email_verified=True)
    for _ in range(3):
        assert stack.refusal(token) == "identity_pending"
    assert stack.rows("SELECT issuer, subject, state, tenant_id, email_hint FROM identities") == [
        (ISSUER, "stranger", "pending", None, "ana@example.org")
    ]
    assert stack.rows("SELECT kind, issuer, subject FROM auth_events WHERE kind = 'identity_pending'") == [
        ("identity_pending", ISSUER, "stranger")
    ]
    assert stack.rows("SELECT count(*) FROM tenants") == tenants
    assert stack.rows("SELECT count(*) FROM user_sessions") == [(0,)]


def test_a_linked_subject_is_its_user_with_the_tenant_of_the_database(stack: Stack, ana: User) -> None:
    token = KEY.sign(sub="s", tenant_id=str(uuid4()), tenant="evil", email="eve@example.org", email_verified=True)
    assert stack.refusal(token) == "identity_pending"
    assert stack.link("s", ana)

    principal = stack.who(token)

    assert (principal.tenant_id, principal.user_id) == (ana.tenant_id, ana.user_id)
    assert (principal.email, principal.display_name) == ("ana@example.org", "ana")
    assert (principal.issuer, principal.subject) == (ISSUER, "s")
    assert principal.session_hash == session_hash(token)
    assert principal.permissions >= {"messages:write", "memory:read", "plugins:run:enricher:local"}
    assert "analytics:read" not in principal.permissions
    assert stack.who(token) == principal  # from Redis, the same


def test_linking_and_revoking_are_events_of_the_tenant_and_of_the_log_without_tenant(stack: Stack, ana: User) -> None:
    assert stack.link("s", ana)
    assert not stack.link("s", ana)
    stack.who(KEY.sign(sub="s"))
    assert stack.revoke("s") == 1
    assert stack.revoke("s") == 0
    wanted = [("identity_linked", ACTOR), ("identity_revoked", ACTOR)]
    assert stack.rows("SELECT kind, actor FROM auth_events WHERE subject = 's' ORDER BY event_id") == wanted
    events = stack.rows(
        "SELECT kind, actor FROM events WHERE tenant_id = %s AND subject_id = %s AND kind LIKE 'identity%%'"
        " ORDER BY event_id",
        ana.tenant_id,
        ana.user_id,
    )
    assert events == wanted


def test_a_revoked_subject_is_refused_at_once_and_its_old_tokens_for_ever(stack: Stack, ana: User) -> None:
    stack.link("s", ana)
    tokens = [KEY.sign(sub="s", jti=str(number)) for number in range(3)]
    for token in tokens:
        stack.who(token)

    assert stack.revoke("s") == 3

    assert {stack.refusal(token) for token in tokens} == {"identity_revoked"}
    assert stack.refusal(KEY.sign(sub="s", jti="new")) == "identity_revoked"
    stack.link("s", ana)
    assert {stack.refusal(token) for token in tokens} == {"session_revoked"}
    assert stack.who(KEY.sign(sub="s", jti="after")).user_id == ana.user_id
    stack.client.flushdb()
    assert {stack.refusal(token) for token in tokens} == {"session_revoked"}


def test_a_pending_subject_can_be_revoked(stack: Stack) -> None:
    token = KEY.sign(sub="spam")
    assert stack.refusal(token) == "identity_pending"
    assert stack.revoke("spam") == 0
    assert stack.refusal(token) == "identity_revoked"


def test_ending_one_session_leaves_the_others(stack: Stack, ana: User) -> None:
    stack.link("s", ana)
    lost, kept = KEY.sign(sub="s", jti="lost"), KEY.sign(sub="s", jti="kept")
    stack.who(lost)
    stack.who(kept)
    assert stack.administration.revoke_session(session_hash(lost))
    assert not stack.administration.revoke_session(session_hash(lost))
    assert stack.refusal(lost) == "session_revoked"
    assert stack.who(kept).user_id == ana.user_id
    assert stack.rows("SELECT count(*) FROM events WHERE kind = 'session_revoked'") == [(1,)]
    with pytest.raises(NotFoundError):
        stack.administration.revoke_session(b"x" * 32)


def test_an_ended_session_does_not_come_back_under_another_spelling_of_its_token(stack: Stack, ana: User) -> None:
    stack.link("s", ana)
    token = KEY.sign(sub="s")
    stack.who(token)
    stack.administration.revoke_session(session_hash(token))
    signed, _, signature = token.rpartition(".")
    raw = base64.urlsafe_b64decode(signature + "==")
    # With r and s, r and n - s is a signature too.
    mirrored = raw[:32] + (ORDER_OF_P256 - int.from_bytes(raw[32:], "big")).to_bytes(32, "big")
    spellings = [token + "==", f"{signed}.{base64.urlsafe_b64encode(mirrored).rstrip(b'=').decode()}"]
    for spelling in spellings:
        assert stack.verifier.verify(spelling).subject == "s"  # it is a good token
        assert stack.refusal(spelling) == "session_revoked"


def test_the_same_subject_at_another_issuer_is_another_identity(stack: Stack, ana: User) -> None:
    stack.link("s", ana)
    assert stack.refusal(KEY.sign(sub="s", iss=OTHER_ISSUER)) == "identity_pending"
    ben = stack.add_user("ben@example.org", "globex")
    stack.link("s", ben, OTHER_ISSUER)
    assert stack.who(KEY.sign(sub="s")).tenant_id == ana.tenant_id
    assert stack.who(KEY.sign(sub="s", iss=OTHER_ISSUER)).tenant_id == ben.tenant_id
    stack.revoke("s", OTHER_ISSUER)
    assert stack.who(KEY.sign(sub="s")).user_id == ana.user_id


def test_subjects_are_compared_to_the_letter(stack: Stack, ana: User) -> None:
    stack.link("subject", ana)
    for other in ("Subject", "subject ", "subjec\u0074\u0301", "subject' OR 1=1 --"):
        assert stack.refusal(KEY.sign(sub=other)) == "identity_pending"


def test_an_identity_never_changes_its_tenant(stack: Stack, ana: User, database: DatabaseUrls) -> None:
    stack.link("s", ana)
    abroad = stack.add_user("ana@example.org", "globex")
    with pytest.raises(ConflictError, match="another tenant"):
        stack.link("s", abroad)
    stack.revoke("s")
    with pytest.raises(ConflictError, match="another tenant"):
        stack.link("s", abroad)
    with pytest.raises(psycopg.errors.IntegrityConstraintViolation, match="for ever"), stack.admin.transaction() as c:
        c.execute("UPDATE identities SET tenant_id = %s, user_id = %s", [abroad.tenant_id, abroad.user_id])
    with pytest.raises(ConflictError, match="for ever"), stack.admin.transaction() as c:
        directory.link_identity(c, ISSUER, "s", abroad.tenant_id, abroad.user_id, actor=ACTOR)
    # Nobody may write that column; the owner, who may, is stopped by the trigger.
    with pytest.raises(psycopg.errors.InsufficientPrivilege), stack.admin.transaction() as c:
        c.execute("UPDATE users SET tenant_id = %s WHERE user_id = %s", [abroad.tenant_id, ana.user_id])
    with (
        psycopg.connect(database.admin_url) as owner,
        pytest.raises(psycopg.errors.IntegrityConstraintViolation, match="immutable"),
    ):
        owner.execute("UPDATE memory.users SET tenant_id = %s WHERE user_id = %s", [abroad.tenant_id, ana.user_id])


def test_an_identity_goes_to_another_user_of_its_tenant_only_after_a_revocation(stack: Stack, ana: User) -> None:
    stack.link("s", ana)
    token = KEY.sign(sub="s")
    stack.who(token)
    ben = stack.add_user("ben@example.org", "acme")
    with pytest.raises(ConflictError, match="revoke it first"):
        stack.link("s", ben)
    stack.revoke("s")
    assert stack.link("s", ben)
    assert stack.refusal(token) == "session_revoked"
    assert stack.who(KEY.sign(sub="s", jti="new")).user_id == ben.user_id


def test_linking_a_subject_that_never_came_has_to_be_meant(stack: Stack, ana: User) -> None:
    with pytest.raises(NotFoundError, match="never come"):
        stack.administration.link_identity(ISSUER, "typo", ana)
    with pytest.raises(InvalidRequestError):
        stack.link("nul\0", ana)
    with pytest.raises(NotFoundError):
        stack.revoke("typo")


# -- linking by e-mail --


def verified(sub: str, issuer: str = TRUSTED_ISSUER, email: str = "Ana@Example.org") -> str:
    return KEY.sign(sub=sub, iss=issuer, email=email, email_verified=True)


def test_a_trusted_issuers_verified_email_links_a_new_subject(stack: Stack, ana: User) -> None:
    assert stack.who(verified("s")).user_id == ana.user_id
    assert stack.rows("SELECT kind FROM events WHERE tenant_id = %s AND kind = 'identity_linked'", ana.tenant_id)


def test_an_email_links_nobody_without_trust_verification_or_one_user_who_has_it(stack: Stack, ana: User) -> None:
    assert stack.refusal(verified("s", ISSUER)) == "identity_pending"
    unverified = KEY.sign(sub="u", iss=TRUSTED_ISSUER, email="ana@example.org", email_verified=False)
    assert stack.refusal(unverified) == "identity_pending"
    assert stack.refusal(verified("n", email="nobody@example.org")) == "identity_pending"
    stack.add_user(ana.email, "globex")
    assert stack.refusal(verified("two")) == "identity_pending"


def test_a_revoked_subject_is_not_linked_again_by_its_email(stack: Stack, ana: User) -> None:
    stack.who(verified("s"))
    stack.revoke("s", TRUSTED_ISSUER)
    assert stack.refusal(verified("s")) == "identity_revoked"


# -- users and tenants --


def test_a_disabled_user_and_a_suspended_tenant_are_refused_at_once_and_let_in_at_once(stack: Stack, ana: User) -> None:
    stack.link("s", ana)
    ben = stack.add_user("ben@example.org", "acme")
    stack.link("b", ben)
    token, other = KEY.sign(sub="s"), KEY.sign(sub="b")
    stack.who(token)
    stack.who(other)

    assert stack.administration.set_user_status(ana, "disabled")
    assert stack.refusal(token) == "user_disabled"
    assert stack.who(other).user_id == ben.user_id
    assert stack.administration.set_user_status(ana, "active")
    assert not stack.administration.set_user_status(ana, "active")
    assert stack.who(token).user_id == ana.user_id

    assert stack.administration.set_tenant_status("acme", "suspended")
    assert {stack.refusal(token), stack.refusal(other)} == {"tenant_suspended"}
    assert stack.administration.set_tenant_status("acme", "active")
    assert stack.who(token).user_id == ana.user_id
    kinds = stack.rows("SELECT kind FROM events WHERE tenant_id = %s ORDER BY event_id", ana.tenant_id)
    assert [kind for (kind,) in kinds if not kind.startswith("identity")] == [
        "tenant_added",
        "user_added",
        "user_added",
        "user_disabled",
        "user_enabled",
        "tenant_suspended",
        "tenant_activated",
    ]


# -- Redis and Postgres --


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


# -- races --


class GatedRedis(RedisManager):
    """A manager whose writes of values read from Postgres wait at a gate."""

    def __init__(self, url: str) -> None:
        super().__init__(url)
        self.arrived = threading.Event()
        self.gate = threading.Event()

    def warm_value(self, key: str, value: object, seconds: int | None = None) -> None:
        self.arrived.set()
        assert self.gate.wait(10)
        super().warm_value(key, value, seconds)


def test_a_request_that_read_before_a_revocation_does_not_bring_the_session_back(stack: Stack, ana: User) -> None:
    stack.link("s", ana)
    token = KEY.sign(sub="s")
    with GatedRedis(stack.manager.url) as gated, ThreadPoolExecutor(1) as pool:
        slow = Sessions(stack.app, gated, stack.verifier)
        answer = pool.submit(slow.authenticate, token, uuid4())
        assert gated.arrived.wait(10)
        stack.revoke("s")
        gated.gate.set()
        answer.result()  # it came before the revocation
    assert stack.refusal(token) == "identity_revoked"


def test_a_disabled_user_whom_redis_was_not_told_of_gets_no_further_with_a_new_token(stack: Stack, ana: User) -> None:
    stack.link("s", ana)
    stack.who(KEY.sign(sub="s", jti="1"))
    stack.rows("UPDATE users SET status = 'disabled' WHERE user_id = %s RETURNING user_id", ana.user_id)
    assert stack.client.exists(keys.auth(ana.user_id))
    assert stack.refusal(KEY.sign(sub="s", jti="2")) == "user_disabled"


def test_a_request_that_read_before_a_user_was_disabled_does_not_bring_the_user_back(stack: Stack, ana: User) -> None:
    stack.link("s", ana)
    token = KEY.sign(sub="s")
    stack.who(token)
    stack.client.delete(keys.auth(ana.user_id))
    with GatedRedis(stack.manager.url) as gated, ThreadPoolExecutor(1) as pool:
        slow = Sessions(stack.app, gated, stack.verifier)
        answer = pool.submit(slow.authenticate, token, uuid4())
        assert gated.arrived.wait(10)
        stack.administration.set_user_status(ana, "disabled")
        gated.gate.set()
        # It may have read before the change, or after it.
        with contextlib.suppress(ForbiddenError):
            answer.result()
    assert stack.refusal(token) == "user_disabled"


def test_what_was_read_too_long_ago_is_not_cached(stack: Stack, ana: User, monkeypatch: pytest.MonkeyPatch) -> None:
    stack.link("s", ana)
    monkeypatch.setattr(sessions, "_SLOWEST_READ_SECONDS", 0.0)
    stack.who(KEY.sign(sub="s"))
    assert stack.client.keys() == []


def test_after_a_revocation_no_request_gets_through_however_many_race_it(stack: Stack, ana: User) -> None:
    stack.link("s", ana)
    tokens = [KEY.sign(sub="s", jti=str(number)) for number in range(40)]
    revoked = threading.Event()
    wrong: list[str] = []

    def keep_asking(number: int) -> int:
        admitted = 0
        for token in tokens[number::4] * 20:
            after = revoked.is_set()
            try:
                stack.who(token)
            except UnauthenticatedError:
                continue
            admitted += 1
            if after:
                wrong.append(token)
        return admitted

    with ThreadPoolExecutor(4) as pool:
        asking = [pool.submit(keep_asking, number) for number in range(4)]
        time.sleep(0.15)
        stack.revoke("s")
        revoked.set()
        admitted = sum(answer.result() for answer in asking)
    assert wrong == []
    assert admitted > 0
    assert {stack.refusal(token) for token in tokens} == {"identity_revoked"}


def test_first_requests_of_one_unknown_subject_at_once_are_one_pending_identity(stack: Stack) -> None:
    barrier = threading.Barrier(8)

    def ask(_: int) -> str:
        barrier.wait()
        return stack.refusal(KEY.sign(sub="new"))

    with ThreadPoolExecutor(8) as pool:
        assert set(pool.map(ask, range(8))) == {"identity_pending"}
    assert stack.rows("SELECT count(*) FROM identities") == [(1,)]
    assert stack.rows("SELECT count(*) FROM auth_events WHERE kind = 'identity_pending'") == [(1,)]


def test_first_requests_of_one_trusted_email_at_once_are_one_link(stack: Stack, ana: User) -> None:
    barrier = threading.Barrier(8)

    def ask(_: int) -> UUID:
        barrier.wait()
        return stack.who(verified("new")).user_id

    with ThreadPoolExecutor(8) as pool:
        assert set(pool.map(ask, range(8))) == {ana.user_id}
    assert stack.rows("SELECT count(*) FROM events WHERE kind = 'identity_linked'") == [(1,)]


def test_links_of_one_new_subject_to_two_tenants_at_once_are_one_link(stack: Stack, ana: User) -> None:
    ben = stack.add_user("ben@example.org", "globex")
    barrier = threading.Barrier(2)

    def link(user: User) -> bool:
        barrier.wait()
        try:
            return stack.link("s", user)
        except ConflictError:
            return False

    with ThreadPoolExecutor(2) as pool:
        assert sorted(pool.map(link, (ana, ben))) == [False, True]
    assert stack.rows("SELECT count(*) FROM events WHERE kind = 'identity_linked'") == [(1,)]


# -- the log of refusals --


def test_a_refused_token_is_in_the_log_with_its_reason_and_correlation_id(stack: Stack, ana: User) -> None:
    correlation_id = uuid4()
    with pytest.raises(UnauthenticatedError):
        stack.sessions.authenticate(KEY.sign(aud="other", sub="s"), correlation_id)
    assert stack.rows("SELECT kind, issuer, subject, correlation_id, detail FROM auth_events") == [
        ("token_refused", ISSUER, None, correlation_id, {"reason": "token_audience"})
    ]
    with pytest.raises(UnauthenticatedError):
        stack.sessions.authenticate(None, correlation_id)
    stack.link("s", ana)
    stack.revoke("s")
    assert stack.refusal(KEY.sign(sub="s")) == "identity_revoked"
    reasons = "SELECT kind, subject, detail->>'reason' FROM auth_events WHERE detail ? 'reason' ORDER BY event_id"
    assert stack.rows(reasons)[1:] == [
        ("token_refused", None, "token_missing"),
        ("access_refused", "s", "identity_revoked"),
    ]


def test_what_a_forger_writes_into_a_token_is_logged_without_harm(stack: Stack) -> None:
    for issuer in ("nul\0\x1b[31m", "lone\ud800", "x" * 3000, "'; DROP TABLE memory.identities; --"):
        assert stack.refusal(KEY.sign(iss=issuer)) == "token_issuer"
    logged = [issuer for (issuer,) in stack.rows("SELECT issuer FROM auth_events ORDER BY event_id")]
    assert logged == ["nul??[31m", "lone?", "x" * 200, "'; DROP TABLE memory.identities; --"]


def test_a_flood_of_forged_tokens_does_not_fill_the_log(stack: Stack) -> None:
    now = 600.0
    log = AuthRefusals(stack.app, clock=lambda: now)
    for _ in range(500):
        log.record("token_refused", "token_signature", uuid4(), issuer=ISSUER)
    log.record("token_refused", "token_expired", uuid4(), issuer=ISSUER)
    assert stack.rows("SELECT detail->>'reason', count(*) FROM auth_events GROUP BY 1 ORDER BY 1") == [
        ("token_expired", 1),
        ("token_signature", PER_MINUTE),
    ]
    now += 60
    for _ in range(2):
        log.record("token_refused", "token_signature", uuid4(), issuer=ISSUER)
    left_out = stack.rows("SELECT detail->'left_out' FROM auth_events ORDER BY event_id DESC LIMIT 2")
    assert left_out == [(None,), (500 - PER_MINUTE,)]


# -- Postgres away --


def test_with_postgres_away_those_known_to_redis_go_on_and_others_are_not_refused(stack: Stack, ana: User) -> None:
    stack.link("s", ana)
    known, unknown = KEY.sign(sub="s"), KEY.sign(sub="s", jti="unknown")
    with TcpProxy(stack.app.url) as proxy, Database(proxy.url, role="memory_app") as app:
        asking = Sessions(app, stack.manager, stack.verifier)
        asking.authenticate(known, uuid4())
        proxy.refuse()
        proxy.cut()
        assert asking.authenticate(known, uuid4()).user_id == ana.user_id
        with pytest.raises(StoreUnavailableError):
            asking.authenticate(unknown, uuid4())
        with pytest.raises(UnauthenticatedError) as refused:
            asking.authenticate(KEY.sign(sub="s", aud="other"), uuid4())
        assert refused.value.code == "token_audience"


def test_a_session_whose_activity_cannot_be_recorded_goes_on(
    stack: Stack, ana: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    stack.link("s", ana)
    token = KEY.sign(sub="s")
    with TcpProxy(stack.app.url) as proxy, Database(proxy.url, role="memory_app") as app:
        asking = Sessions(app, stack.manager, stack.verifier)
        asking.authenticate(token, uuid4())
        monkeypatch.setattr(sessions, "_ACTIVITY_SECONDS", 0.0)
        proxy.refuse()
        proxy.cut()
        for _ in range(3):
            assert asking.authenticate(token, uuid4()).user_id == ana.user_id


def test_refusals_while_postgres_was_away_are_counted_in_the_next_record(stack: Stack) -> None:
    now = 600.0
    with TcpProxy(stack.app.url) as proxy, Database(proxy.url, role="memory_app") as app:
        log = AuthRefusals(app, clock=lambda: now)
        proxy.refuse()
        proxy.cut()
        for _ in range(5):
            log.record("token_refused", "token_signature", uuid4(), issuer=ISSUER)
        proxy.forward()
        now += 60
        deadline = time.monotonic() + 10
        while not stack.rows("SELECT 1 FROM auth_events"):
            assert time.monotonic() < deadline
            now += 60
            log.record("token_refused", "token_signature", uuid4(), issuer=ISSUER)
    (left_out,) = stack.rows("SELECT (detail->'left_out')::int >= 5 FROM auth_events")
    assert left_out == (True,)
