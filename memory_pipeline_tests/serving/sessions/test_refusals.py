"""Tokens that are refused, in the log."""

from __future__ import annotations

from uuid import uuid4

import pytest

from memory_pipeline.model.errors import UnauthenticatedError
from memory_pipeline.serving.auth_refusals import PER_MINUTE, AuthRefusals
from memory_pipeline.stores.postgres.tenants import User
from memory_pipeline_tests.serving.identity_provider import ISSUER
from memory_pipeline_tests.serving.sessions.support import KEY, Stack


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
