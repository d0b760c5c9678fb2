"""Sessions where requests race revocations and each other."""

from __future__ import annotations

import contextlib
import threading
from concurrent.futures import ThreadPoolExecutor
from uuid import UUID, uuid4

import pytest

from memory_pipeline.model.errors import ConflictError, ForbiddenError, UnauthenticatedError
from memory_pipeline.serving import sessions
from memory_pipeline.serving.sessions import Sessions
from memory_pipeline.stores.postgres.tenants import User
from memory_pipeline.stores.redis import keys
from memory_pipeline.stores.redis.manager import RedisManager
from memory_pipeline_tests.serving.sessions.support import KEY, Stack, verified


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
    everyone_in = threading.Barrier(5)
    revoked = threading.Event()
    wrong: list[str] = []

    def keep_asking(number: int) -> None:
        for token in tokens[number::8]:  # so that half of the sessions are known when it begins
            stack.who(token)
        everyone_in.wait(60)
        for token in tokens[number::4] * 20:
            after = revoked.is_set()
            try:
                stack.who(token)
            except UnauthenticatedError:
                continue
            if after:
                wrong.append(token)

    with ThreadPoolExecutor(4) as pool:
        asking = [pool.submit(keep_asking, number) for number in range(4)]
        everyone_in.wait(60)
        stack.revoke("s")
        revoked.set()
        for answer in asking:
            answer.result()
    assert wrong == []
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
