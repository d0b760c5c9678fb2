"""Tokens: the keys' way from the issuer to here."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import jwt
import pytest
from structlog.testing import capture_logs

from memory_pipeline.model.errors import StoreUnavailableError
from memory_pipeline.serving.signing_keys import SigningKeys
from memory_pipeline.serving.tokens import TokenVerifier
from memory_pipeline_tests.serving.identity_provider import SigningKey, issuer_at, jwks_server
from memory_pipeline_tests.serving.tokens.support import KEY, RSA_KEY, Clock, encoded, refused_as


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
