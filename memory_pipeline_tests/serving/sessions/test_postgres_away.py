"""Sessions while Postgres is away."""

from __future__ import annotations

import time
from uuid import uuid4

import pytest

from memory_pipeline.model.errors import StoreUnavailableError, UnauthenticatedError
from memory_pipeline.serving import sessions
from memory_pipeline.serving.auth_refusals import AuthRefusals
from memory_pipeline.serving.sessions import Sessions
from memory_pipeline.stores.postgres.database import Database
from memory_pipeline.stores.postgres.tenants import User
from memory_pipeline_tests.faults.proxy import TcpProxy
from memory_pipeline_tests.serving.identity_provider import ISSUER
from memory_pipeline_tests.serving.sessions.support import KEY, Stack


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
