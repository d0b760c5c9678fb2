"""Tokens: what is accepted, and what is read from them."""

from __future__ import annotations

import time
from datetime import UTC, datetime

import pytest

from memory_pipeline.serving.tokens import TokenVerifier
from memory_pipeline_tests.serving.identity_provider import AUDIENCE, ISSUER, SigningKey, issuer_at, jwks_server
from memory_pipeline_tests.serving.tokens.support import KEY, RSA_KEY


def test_a_token_of_a_trusted_issuer_says_who_it_is_for(verifier: TokenVerifier) -> None:
    expiry = int(time.time()) + 600
    claims = verifier.verify(KEY.sign(sub="ana", exp=expiry, email="ana@example.org", email_verified=True))
    assert (claims.issuer, claims.subject, claims.email) == (ISSUER, "ana", "ana@example.org")
    assert claims.expires_at == datetime.fromtimestamp(expiry, UTC)
    assert verifier.verify(RSA_KEY.sign(sub="ben")).subject == "ben"
    assert verifier.verify(KEY.sign(aud=["elsewhere", AUDIENCE])).subject == "subject-1"


@pytest.mark.parametrize("algorithm", ["ES384", "EdDSA", "PS256", "RS512"])
def test_other_asymmetric_algorithms_work_where_the_issuer_names_them(algorithm: str) -> None:
    key = SigningKey("k", algorithm)
    with jwks_server(KEY, key) as server:
        assert TokenVerifier([issuer_at(server.url, algorithms=(algorithm,))]).verify(key.sign()).subject == "subject-1"


@pytest.mark.parametrize("verified", [False, None, "true", 1])
def test_an_email_counts_only_where_the_issuer_says_it_is_verified(verifier: TokenVerifier, verified: object) -> None:
    assert verifier.verify(KEY.sign(email="ana@example.org", email_verified=verified)).email is None


def test_an_email_that_is_none_is_left_out(verifier: TokenVerifier) -> None:
    for email in ("not an address", "", 7, ["ana@example.org"]):
        assert verifier.verify(KEY.sign(email=email, email_verified=True)).email is None


def test_a_clock_difference_within_the_leeway_is_forgiven(verifier: TokenVerifier) -> None:
    now = int(time.time())
    assert verifier.verify(KEY.sign(exp=now - 20)).subject == "subject-1"
    assert verifier.verify(KEY.sign(nbf=now + 20, iat=now + 20)).subject == "subject-1"


def test_an_expiry_beyond_the_calendar_is_its_end(verifier: TokenVerifier) -> None:
    assert verifier.verify(KEY.sign(exp=10**15)).expires_at.year == 9999
