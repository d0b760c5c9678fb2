"""Tokens: what is accepted, every forgery that is not, and the keys' way from the issuer to here."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import given
from hypothesis import strategies as st
from structlog.testing import capture_logs

from memory_pipeline import metrics
from memory_pipeline.model.errors import SettingsError, StoreUnavailableError, UnauthenticatedError
from memory_pipeline.serving.issuers import Issuer, load_issuers, read_issuers
from memory_pipeline.serving.signing_keys import SigningKeys
from memory_pipeline.serving.tokens import MAX_TOKEN_CHARACTERS, TokenVerifier
from memory_pipeline.settings import load_settings
from memory_pipeline_tests.serving.identity_provider import (
    AUDIENCE,
    ISSUER,
    JwksServer,
    SigningKey,
    issuer_at,
    jwks_server,
)

KEY = SigningKey("key-1")
RSA_KEY = SigningKey("rsa-1", "RS256")
OTHER_KEY = SigningKey("key-1")
"""With the id of the issuer's key, and not it."""


@pytest.fixture(scope="module")
def server() -> Iterator[JwksServer]:
    with jwks_server(KEY, RSA_KEY) as running:
        yield running


@pytest.fixture(scope="module")
def verifier(server: JwksServer) -> TokenVerifier:
    return TokenVerifier([issuer_at(server.url, algorithms=("ES256", "RS256"))], leeway=30)


def refused_as(verifier: TokenVerifier, token: str) -> str:
    """Return the code a token is refused with, after seeing that it was counted."""
    with pytest.raises(UnauthenticatedError) as refusal:
        verifier.verify(token)
    code = refusal.value.code
    counted = metrics.REGISTRY.get_sample_value("memory_tokens_refused_total", {"reason": code})
    assert counted is not None
    assert counted >= 1
    return code


def encoded(part: Any) -> str:
    content = part if isinstance(part, bytes) else json.dumps(part).encode()
    return base64.urlsafe_b64encode(content).rstrip(b"=").decode()


# -- what is accepted --


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


# -- forgeries (fault 39) --


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


# -- keys --


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def test_a_new_key_of_the_issuer_is_found_when_a_token_names_it() -> None:
    clock = Clock()
    new = SigningKey("key-2")
    with jwks_server(KEY) as server:
        keys = SigningKeys(issuer_at(server.url), clock=clock)
        assert keys.find("key-1", "ES256") is not None
        server.keys = [new]
        clock.now += 11
        assert keys.find("key-2", "ES256") is not None
        assert keys.find("key-1", "ES256") is None  # the issuer has it no more
        assert server.asked == 2


def test_made_up_key_ids_cost_the_issuer_one_request() -> None:
    clock = Clock()
    with jwks_server(KEY) as server:
        keys = SigningKeys(issuer_at(server.url), clock=clock)
        with ThreadPoolExecutor(8) as pool:
            assert set(pool.map(lambda n: keys.find(f"made-up-{n}", "ES256"), range(200))) == {None}
        assert server.asked == 1
        clock.now += 11
        assert keys.find("made-up", "ES256") is None
        assert keys.find("made-up", "ES256") is None
        assert server.asked == 2


def test_known_keys_go_on_while_the_issuer_is_away_and_unknown_ones_are_no_refusal() -> None:
    clock = Clock()
    with jwks_server(KEY) as server:
        keys = SigningKeys(issuer_at(server.url), clock=clock)
        assert keys.find("key-1", "ES256") is not None
    clock.now += 11
    assert keys.find("key-1", "ES256") is not None
    with pytest.raises(StoreUnavailableError, match="can't be read"):
        keys.find("key-2", "ES256")
    clock.now += 7200
    assert keys.find("key-1", "ES256") is not None
    clock.now += 86_400
    with pytest.raises(StoreUnavailableError):
        keys.find("key-1", "ES256")


def test_an_issuer_that_is_away_at_first_is_found_when_it_is_back() -> None:
    clock = Clock()
    with jwks_server(KEY) as server:
        server.status = 500
        keys = SigningKeys(issuer_at(server.url), clock=clock)
        for _ in range(3):
            with pytest.raises(StoreUnavailableError, match="answered 500"):
                keys.find("key-1", "ES256")
        assert server.asked == 1
        server.status = 200
        clock.now += 11
        assert keys.find("key-1", "ES256") is not None


def test_keys_are_read_again_when_their_lifetime_is_over_and_nobody_waits_for_it() -> None:
    clock = Clock()
    with jwks_server(KEY) as server:
        keys = SigningKeys(issuer_at(server.url), clock=clock)
        assert keys.find("key-1", "ES256") is not None
        server.keys = [SigningKey("key-2")]
        server.hold.clear()
        clock.now += 3601
        assert keys.find("key-1", "ES256") is not None  # answered while the read is held up
        server.hold.set()
        deadline = time.monotonic() + 5
        while keys.find("key-1", "ES256") is not None:
            assert time.monotonic() < deadline
            time.sleep(0.01)
        assert server.asked == 2


def test_requests_do_not_queue_up_behind_an_issuer_that_hangs() -> None:
    with jwks_server(KEY) as server:
        keys = SigningKeys(issuer_at(server.url))
        server.hold.clear()
        first = threading.Thread(target=keys.find, args=("key-1", "ES256"))
        first.start()
        while server.asked == 0:
            time.sleep(0.005)
        with pytest.raises(StoreUnavailableError, match="right now"):
            keys.find("key-1", "ES256")
        server.hold.set()
        first.join()
        assert keys.find("key-1", "ES256") is not None


@pytest.mark.parametrize(
    "body",
    [b"<html>", b"[]", b"{}", b'{"keys": 7}', b'{"keys": []}', b'{"keys": [7, null, {}]}', b"[" * 5000, b"x" * 600_000],
)
def test_what_is_no_jwks_leaves_the_known_keys(body: bytes) -> None:
    clock = Clock()
    with jwks_server(KEY) as server:
        keys = SigningKeys(issuer_at(server.url), clock=clock)
        assert keys.find("key-1", "ES256") is not None
        server.body = body
        clock.now += 11
        with pytest.raises(StoreUnavailableError):
            keys.find("key-2", "ES256")
        assert server.asked == 2
        assert keys.find("key-1", "ES256") is not None


def test_a_redirect_is_not_followed() -> None:
    with jwks_server(KEY) as other, jwks_server() as server:
        server.status, server.location = 302, other.url
        with pytest.raises(StoreUnavailableError, match="answered 302"):
            SigningKeys(issuer_at(server.url)).find("key-1", "ES256")
        assert other.asked == 0


def test_entries_that_are_not_for_signatures_of_the_algorithm_are_no_keys() -> None:
    def with_entry(**changes: Any) -> SigningKey:
        key = SigningKey("k")
        key.entry |= changes
        return key

    wrong = [
        with_entry(use="enc"),
        with_entry(alg="ES384"),
        with_entry(key_ops=["sign"]),
        with_entry(crv="P-384"),
        with_entry(x="AA"),
        SigningKey("k", "ES384"),
    ]
    secret = with_entry()
    secret.entry = {"kty": "oct", "k": encoded(b"s" * 32), "kid": "k", "alg": "ES256"}
    with jwks_server(KEY, *wrong, secret) as server, capture_logs() as lines:
        assert SigningKeys(issuer_at(server.url)).find("k", "ES256") is None
    (line,) = [line for line in lines if line["event"] == "jwks_key_unusable"]
    assert (line["key_id"], line["algorithm"]) == ("k", "ES256"), "only what is meant for them and can't be read"
    with jwks_server(KEY, with_entry(use="sig", alg="ES256", key_ops=["verify"])) as server:
        assert SigningKeys(issuer_at(server.url)).find("k", "ES256") is not None


def test_short_rsa_keys_are_no_keys() -> None:
    with jwks_server(RSA_KEY, SigningKey("short", "RS256", bits=1024)) as server, capture_logs() as lines:
        keys = SigningKeys(issuer_at(server.url, algorithms=("RS256",)))
        assert keys.find("short", "RS256") is None
        assert keys.find("rsa-1", "RS256") is not None
    told = [(line["key_id"], line["problem"]) for line in lines if line["event"] == "jwks_key_unusable"]
    assert told == [("short", "it has 1024 bits, fewer than 2048")]


def test_a_token_without_key_id_is_verified_where_the_issuer_has_one_key() -> None:
    token = KEY.sign({"kid": None})
    assert "kid" not in jwt.get_unverified_header(token)
    with jwks_server(KEY, RSA_KEY) as server:
        assert TokenVerifier([issuer_at(server.url)]).verify(token).subject == "subject-1"
    with jwks_server(KEY, SigningKey("key-2")) as server:
        assert refused_as(TokenVerifier([issuer_at(server.url)]), token) == "token_key"


def test_issuers_do_not_vouch_for_each_other() -> None:
    second = SigningKey("key-2")
    with jwks_server(KEY) as one, jwks_server(second) as two:
        both = TokenVerifier([issuer_at(one.url), issuer_at(two.url, issuer="https://two.example/")])
        assert both.verify(second.sign(iss="https://two.example/")).issuer == "https://two.example/"
        assert refused_as(both, second.sign()) == "token_key"
        assert refused_as(both, KEY.sign(iss="https://two.example/")) == "token_key"


# -- the issuers file --


def write_issuers(folder: Path, *entries: Any) -> Path:
    path = folder / "issuers.json"
    path.write_text(json.dumps(entries))
    return path


GOOD = {"issuer": ISSUER, "audience": AUDIENCE, "algorithms": ["ES256"], "jwks_uri": "https://login.example.org/jwks"}


def test_an_issuers_file_may_name_keys_in_a_file_beside_it(tmp_path: Path) -> None:
    (tmp_path / "keys.json").write_text(json.dumps({"keys": [KEY.entry]}))
    entry = GOOD | {"jwks_file": "keys.json", "trusted_email": True}
    del entry["jwks_uri"]
    issuers = read_issuers(write_issuers(tmp_path, entry))
    verifier = TokenVerifier(issuers)
    assert verifier.verify(KEY.sign()).subject == "subject-1"
    assert verifier.trusts_email(ISSUER)


def test_a_key_taken_out_of_the_file_is_not_trusted_for_long(tmp_path: Path) -> None:
    clock = Clock()
    path = tmp_path / "keys.json"
    path.write_text(json.dumps({"keys": [KEY.entry]}))
    keys = SigningKeys(Issuer(issuer=ISSUER, audience="a", algorithms=("ES256",), jwks_file=str(path)), clock=clock)
    assert keys.find("key-1", "ES256") is not None
    path.write_text(json.dumps({"keys": [SigningKey("key-2").entry]}))
    clock.now += 61
    assert keys.find("key-1", "ES256") is None


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"algorithms": ["HS256"]}, "HS256"),
        ({"algorithms": ["RS256", "none"]}, "none"),
        ({"algorithms": []}, "algorithms"),
        ({"audience": ""}, "audience"),
        ({"audience": None}, "audience"),
        ({"issuer": ""}, "issuer"),
        ({"jwks_uri": None}, "jwks_uri or by jwks_file"),
        ({"jwks_file": "issuers.json"}, "jwks_uri or by jwks_file"),
        ({"jwks_uri": "http://login.example.org/jwks"}, "must be https"),
        ({"jwks_uri": "http://127.0.0.1.evil.example/jwks"}, "must be https"),
        ({"jwks_uri": "http://localhost@evil.example/jwks"}, "must be https"),
        ({"jwks_uri": "file:///etc/passwd"}, "must be https"),
        ({"jwks_uri": None, "jwks_file": "missing.json"}, "is not there"),
        ({"trusted_email": "yes"}, "trusted_email"),
        ({"trusted_emails": True}, "trusted_emails"),
    ],
)
def test_a_bad_entry_is_one_line_that_says_what_is_wrong(
    tmp_path: Path, change: dict[str, Any], complaint: str
) -> None:
    path = write_issuers(tmp_path, GOOD | {"issuer": "https://first.example"}, GOOD | change)
    with pytest.raises(SettingsError, match="entry 2") as refusal:
        read_issuers(path)
    assert complaint in str(refusal.value)
    assert len(str(refusal.value).splitlines()) == 1


def test_every_bad_entry_has_its_line(tmp_path: Path) -> None:
    path = write_issuers(tmp_path, 7, GOOD, GOOD | {"algorithms": ["HS512"]})
    with pytest.raises(SettingsError) as refusal:
        read_issuers(path)
    lines = str(refusal.value).splitlines()
    assert [line for line in lines if "entry 1" in line]
    assert [line for line in lines if "entry 3" in line and "HS512" in line]
    assert [line for line in lines if "entry 3" in line and "same issuer" in line]


def test_a_named_issuers_file_must_be_there_and_be_json(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="can't be read"):
        load_issuers(load_settings(home=tmp_path, issuers_file=tmp_path / "none.json"))
    (tmp_path / "bad.json").write_text("{")
    with pytest.raises(SettingsError, match="not a JSON array"):
        load_issuers(load_settings(home=tmp_path, issuers_file=tmp_path / "bad.json"))


def test_the_homes_issuers_file_is_taken_where_none_is_named(tmp_path: Path) -> None:
    assert load_issuers(load_settings(home=tmp_path)) == ()
    write_issuers(tmp_path, GOOD)
    assert [issuer.issuer for issuer in load_issuers(load_settings(home=tmp_path))] == [ISSUER]
    assert load_settings().token_leeway_seconds < timedelta(minutes=5).total_seconds()


def test_without_issuers_every_token_is_refused() -> None:
    assert refused_as(TokenVerifier([]), KEY.sign()) == "token_issuer"
