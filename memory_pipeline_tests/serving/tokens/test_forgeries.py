"""Tokens: every forgery that is not accepted (fault 39)."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import time
from datetime import UTC, datetime
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import given
from hypothesis import strategies as st

from memory_pipeline.model.errors import UnauthenticatedError
from memory_pipeline.serving.tokens import MAX_TOKEN_CHARACTERS, TokenVerifier
from memory_pipeline_tests.serving.identity_provider import (
    AUDIENCE,
    ISSUER,
    JwksServer,
    SigningKey,
    issuer_at,
    jwks_server,
)
from memory_pipeline_tests.serving.tokens.support import KEY, OTHER_KEY, RSA_KEY, encoded, refused_as


def test_a_token_of_another_issuer_is_refused(verifier: TokenVerifier) -> None:
    for issuer in ("https://login.example.org", "https://login.example.org/x", ISSUER.upper(), "", " " + ISSUER):
        assert refused_as(verifier, KEY.sign(iss=issuer)) == "token_issuer"


def test_a_token_for_another_audience_is_refused(verifier: TokenVerifier) -> None:
    for audience in ("other", AUDIENCE + "/", ["other", "third"]):
        assert refused_as(verifier, KEY.sign(aud=audience)) == "token_audience"
    assert refused_as(verifier, KEY.sign(aud="")) == "token_claims"
    assert refused_as(verifier, KEY.sign(aud=[])) == "token_claims"


def test_a_token_without_signature_is_refused(verifier: TokenVerifier) -> None:
    payload = jwt.decode(KEY.sign(), options={"verify_signature": False})
    for algorithm in ("none", "None", "NONE", ""):
        for signature in ("", encoded(b"x" * 64)):
            forged = f"{encoded({'alg': algorithm, 'typ': 'JWT'})}.{encoded(payload)}.{signature}"
            assert refused_as(verifier, forged) == "token_algorithm"
    header, body, _ = KEY.sign().split(".")
    assert refused_as(verifier, f"{header}.{body}.") == "token_signature"


@pytest.mark.parametrize("algorithm", ["HS256", "HS384", "HS512"])
def test_a_token_signed_with_the_public_key_as_secret_is_refused(verifier: TokenVerifier, algorithm: str) -> None:
    payload = encoded(jwt.decode(RSA_KEY.sign(), options={"verify_signature": False}))
    signed = f"{encoded({'alg': algorithm, 'typ': 'JWT', 'kid': 'rsa-1'})}.{payload}"
    public = RSA_KEY.private.public_key()
    secrets = [
        public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo),
        public.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo),
        RSA_KEY.entry["n"].encode(),
        b"",
    ]
    for secret in secrets:
        digest = getattr(hashlib, algorithm.replace("HS", "sha"))
        forged = f"{signed}.{encoded(hmac.new(secret, signed.encode(), digest).digest())}"
        assert refused_as(verifier, forged) == "token_algorithm"


def test_an_algorithm_the_issuer_does_not_name_is_refused_though_the_key_could(server: JwksServer) -> None:
    only_rsa = TokenVerifier([issuer_at(server.url, algorithms=("PS256",))])
    assert refused_as(only_rsa, RSA_KEY.sign()) == "token_algorithm"
    assert refused_as(only_rsa, KEY.sign()) == "token_algorithm"


def test_a_key_is_not_used_for_an_algorithm_of_another_type(verifier: TokenVerifier) -> None:
    assert refused_as(verifier, KEY.sign({"kid": "rsa-1"})) == "token_key"
    assert refused_as(verifier, RSA_KEY.sign({"kid": "key-1"})) == "token_key"


def test_a_token_with_an_unknown_key_id_is_refused(verifier: TokenVerifier) -> None:
    assert refused_as(verifier, SigningKey("key-2").sign()) == "token_key"


def test_a_token_of_another_key_under_a_known_id_is_refused(verifier: TokenVerifier) -> None:
    assert refused_as(verifier, OTHER_KEY.sign()) == "token_signature"


def test_a_key_that_the_token_brings_along_is_not_used(verifier: TokenVerifier) -> None:
    own = SigningKey("mine")
    with jwks_server(own) as server:
        for headers in ({"jwk": own.entry}, {"jku": server.url}, {"x5u": server.url}, {"kid": server.url}):
            assert refused_as(verifier, own.sign(headers)) == "token_key"
        assert refused_as(verifier, own.sign({"jwk": own.entry, "kid": "key-1"})) == "token_signature"
        assert server.asked == 0


def test_an_expired_token_is_refused(verifier: TokenVerifier) -> None:
    now = int(time.time())
    for expiry in (now - 31, 0, -1):
        assert refused_as(verifier, KEY.sign(exp=expiry)) == "token_expired"


def test_a_token_that_is_not_valid_yet_is_refused(verifier: TokenVerifier) -> None:
    later = int(time.time()) + 60
    assert refused_as(verifier, KEY.sign(nbf=later)) == "token_not_yet_valid"
    assert refused_as(verifier, KEY.sign(iat=later)) == "token_not_yet_valid"


def test_a_changed_payload_or_header_is_refused(verifier: TokenVerifier) -> None:
    header, body, signature = KEY.sign(sub="ana").split(".")
    payload = json.loads(base64.urlsafe_b64decode(body + "=="))
    changed = encoded(payload | {"sub": "ben"})
    assert refused_as(verifier, f"{header}.{changed}.{signature}") == "token_signature"
    other_header = encoded({"alg": "ES256", "kid": "key-1", "typ": "JWT", "x": 1})
    assert refused_as(verifier, f"{other_header}.{body}.{signature}") == "token_signature"


@pytest.mark.parametrize("missing", ["exp", "iss", "aud", "sub"])
def test_a_token_without_a_required_claim_is_refused(verifier: TokenVerifier, missing: str) -> None:
    assert refused_as(verifier, KEY.sign(**{missing: None})) == "token_claims"


def test_a_claim_the_issuers_entry_requires_must_be_there_with_its_value(server: JwksServer) -> None:
    strict = TokenVerifier([issuer_at(server.url, required_claims={"tid": "acme", "azp": None})])
    assert strict.verify(KEY.sign(tid="acme", azp="app")).subject == "subject-1"
    assert refused_as(strict, KEY.sign(tid="acme")) == "token_claims"
    assert refused_as(strict, KEY.sign(tid="other", azp="app")) == "token_claims"
    assert refused_as(strict, KEY.sign(azp="app")) == "token_claims"


@pytest.mark.parametrize("subject", ["", " ", "nul\0", "lone\ud800", "s" * 513])
def test_a_subject_that_postgres_could_not_take_is_refused(verifier: TokenVerifier, subject: str) -> None:
    assert refused_as(verifier, KEY.sign(sub=subject)) == "token_claims"


def test_claims_of_a_wrong_type_are_refused(verifier: TokenVerifier) -> None:
    header, _, _ = KEY.sign().split(".")
    good = jwt.decode(KEY.sign(), options={"verify_signature": False})
    changes: list[dict[str, Any]] = [
        {"sub": 7},
        {"sub": {}},
        {"exp": "soon"},
        {"exp": []},
        {"exp": 1e400},
        {"nbf": "x"},
        {"iat": {}},
    ]
    for change in changes:
        signed = f"{header}.{encoded(good | change)}"
        algorithm = jwt.get_algorithm_by_name("ES256")
        token = f"{signed}.{encoded(algorithm.sign(signed.encode(), KEY.private))}"
        assert refused_as(verifier, token) in {"token_claims", "token_malformed"}, change


def test_an_oversized_token_is_refused_unread(verifier: TokenVerifier) -> None:
    assert refused_as(verifier, KEY.sign(padding="x" * MAX_TOKEN_CHARACTERS)) == "token_too_long"
    assert refused_as(verifier, "x" * 10_000_000) == "token_too_long"


def test_what_is_no_token_is_refused(verifier: TokenVerifier) -> None:
    assert refused_as(verifier, "") == "token_missing"
    deep = encoded(b'{"a":' * 1000 + b"1" + b"}" * 1000)
    for text in ("x", "a.b", "a.b.c", "a.b.c.d", "....", "é.é.é", "\ud800.a.b", f"{deep}.{encoded({})}.x", "a b.c.d"):
        assert refused_as(verifier, text) == "token_malformed", text
    header = encoded({"alg": "ES256", "kid": "key-1"})
    for payload in (b"[1]", b"null", b"\xff", b"[" * 4000, b"{", b"1" * 5000):
        assert refused_as(verifier, f"{header}.{encoded(payload)}.{encoded(b'x')}") == "token_malformed", payload
    issuers: list[Any] = [7, None, ["x"], {}]
    for issuer in issuers:
        assert refused_as(verifier, f"{header}.{encoded({'iss': issuer})}.{encoded(b'x')}") == "token_claims"
    for critical in (["b64"], ["x"], "b64", []):
        bad = encoded({"alg": "ES256", "kid": "key-1", "crit": critical, "b64": False})
        assert refused_as(verifier, f"{bad}..{encoded(b'x')}") == "token_malformed"


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=10),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
_HEADERS = st.fixed_dictionaries(
    {}, optional={name: _JSON | st.sampled_from(["ES256", "RS256", "key-1"]) for name in ("alg", "kid", "typ", "crit")}
)
_PAYLOADS = st.fixed_dictionaries(
    {"iss": st.just(ISSUER) | _JSON}, optional=dict.fromkeys(("sub", "aud", "exp", "iat", "nbf", "email"), _JSON)
)


@given(header=_HEADERS, payload=_PAYLOADS, signature=st.binary(max_size=80))
def test_no_unsigned_token_passes_or_breaks_anything(
    verifier: TokenVerifier, header: dict[str, Any], payload: dict[str, Any], signature: bytes
) -> None:
    refused_as(verifier, f"{encoded(header)}.{encoded(payload)}.{encoded(signature)}")


@given(
    sub=_JSON,
    exp=_JSON | st.integers(min_value=2**32),
    optional=st.dictionaries(st.sampled_from(["iat", "nbf", "email", "email_verified", "jti"]), _JSON),
)
def test_a_signed_token_is_understood_or_refused(
    verifier: TokenVerifier, sub: object, exp: object, optional: dict[str, Any]
) -> None:
    header = encoded({"alg": "ES256", "kid": "key-1"})
    signed = f"{header}.{encoded(optional | {'iss': ISSUER, 'aud': AUDIENCE, 'sub': sub, 'exp': exp})}"
    token = f"{signed}.{encoded(jwt.get_algorithm_by_name('ES256').sign(signed.encode(), KEY.private))}"
    try:
        claims = verifier.verify(token)
    except UnauthenticatedError:
        return
    assert claims.subject == sub
    assert claims.expires_at > datetime.now(UTC)


@given(text=st.text(max_size=300))
def test_no_text_passes_or_breaks_anything(verifier: TokenVerifier, text: str) -> None:
    refused_as(verifier, text)
