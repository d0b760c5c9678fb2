"""Who is not let in, over HTTP: forged and ended tokens, logins nobody linked; refused, on record, nothing written."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import json
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from memory_pipeline.serving.administration import Administration
from memory_pipeline.serving.sessions import session_hash
from memory_pipeline.stores.postgres.permissions import Author
from memory_pipeline.stores.postgres.tenants import User, find_user
from memory_pipeline_tests.api.stack import ApiStack, api_stack
from memory_pipeline_tests.api.support import AUDIENCE, ISSUER, PREFIX, Json, Person, message
from memory_pipeline_tests.local.host import Servers

_OTHER_KEY = ec.generate_private_key(ec.SECP256R1())
_RSA_KEY = rsa.generate_private_key(65537, 2048)


@pytest.fixture(scope="module")
def stack(servers: Servers, migrated_template: str) -> Iterator[ApiStack]:
    with api_stack(servers, migrated_template) as stack:
        yield stack


@pytest.fixture(scope="module")
def ana(stack: ApiStack) -> Person:
    return stack.person("acme", "ana@example.org")


@pytest.fixture
def administration(stack: ApiStack) -> Administration:
    return Administration(stack.services.pipeline.database, stack.services.redis, Author("test", uuid4()))


def claims(**changed: object) -> Json:
    now = int(time.time())
    content = {"iss": ISSUER, "aud": AUDIENCE, "sub": "ana@example.org", "iat": now, "exp": now + 600} | changed
    return {name: value for name, value in content.items() if value is not None}


def part(content: object) -> str:
    return base64.urlsafe_b64encode(json.dumps(content).encode()).rstrip(b"=").decode()


def by_another_key(issuer: Any, **changed: object) -> str:
    return jwt.encode(claims(**changed), _OTHER_KEY, algorithm="ES256", headers={"kid": "k1"})


def unsigned(issuer: Any) -> str:
    return f"{part({'alg': 'none', 'typ': 'JWT', 'kid': 'k1'})}.{part(claims())}."


def signed_with_the_public_key_as_secret(stack: ApiStack) -> str:
    """The algorithm swap: whoever has the published key could sign, were HS256 taken."""
    published = (stack.settings.home / "jwks.json").read_bytes()
    body = f"{part({'alg': 'HS256', 'typ': 'JWT', 'kid': 'k1'})}.{part(claims())}"
    signature = hmac.new(published, body.encode(), hashlib.sha256).digest()
    return f"{body}.{base64.urlsafe_b64encode(signature).rstrip(b'=').decode()}"


def with_a_key_of_its_own(stack: ApiStack) -> str:
    key = jwt.algorithms.ECAlgorithm.to_jwk(_OTHER_KEY.public_key(), as_dict=True)
    return jwt.encode(claims(), _OTHER_KEY, algorithm="ES256", headers={"kid": "k1", "jwk": key})


def for_somebody_else_under_the_old_signature(stack: ApiStack) -> str:
    header, _payload, signature = stack.issuer.token("nobody@example.org").split(".")
    return f"{header}.{part(claims())}.{signature}"


_FORGERIES: dict[str, tuple[str, Callable[[ApiStack], str]]] = {
    "another issuer": (
        "token_issuer",
        lambda stack: stack.issuer.token("ana@example.org", iss="https://evil.example.org/"),
    ),
    "an issuer without its slash": (
        "token_issuer",
        lambda stack: stack.issuer.token("ana@example.org", iss=ISSUER.rstrip("/")),
    ),
    "another audience": ("token_audience", lambda stack: stack.issuer.token("ana@example.org", aud="billing")),
    "none": ("token_algorithm", unsigned),
    "swapped algorithm": ("token_algorithm", signed_with_the_public_key_as_secret),
    "an algorithm the issuer does not use": (
        "token_algorithm",
        lambda _stack: jwt.encode(claims(), _RSA_KEY, algorithm="RS256", headers={"kid": "k1"}),
    ),
    "unknown key id": (
        "token_key",
        lambda _stack: jwt.encode(claims(), _OTHER_KEY, algorithm="ES256", headers={"kid": "k2"}),
    ),
    "another key under a known id": ("token_signature", by_another_key),
    "a key it brings along": ("token_signature", with_a_key_of_its_own),
    "another's payload": ("token_signature", for_somebody_else_under_the_old_signature),
    "expired": (
        "token_expired",
        lambda stack: stack.issuer.token("ana@example.org", exp=datetime.now(UTC) - timedelta(minutes=2)),
    ),
    "not valid yet": (
        "token_not_yet_valid",
        lambda stack: stack.issuer.token("ana@example.org", nbf=datetime.now(UTC) + timedelta(minutes=2)),
    ),
    "without expiry": ("token_claims", lambda stack: stack.issuer.token("ana@example.org", exp=None)),
    "without subject": ("token_claims", lambda stack: stack.issuer.token("", sub=None)),
    "no token": ("token_malformed", lambda _stack: "a.b.c"),
    "very long": ("token_too_long", lambda stack: stack.issuer.token("ana@example.org", pad="x" * 9000)),
}


def post(stack: ApiStack, headers: Any, **more: Any) -> Any:
    return stack.client.post(f"{PREFIX}/messages", json={"messages": [message("canary")]}, headers=headers, **more)


def user_of(stack: ApiStack, person: Person) -> User:
    email = next(email for email, known in stack.people.items() if known == person)
    with stack.services.pipeline.database.transaction() as connection:
        return find_user(connection, email)


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


@pytest.mark.parametrize("forgery", _FORGERIES)
def test_a_forged_token_is_refused_and_on_record_and_nothing_is_written(
    stack: ApiStack, ana: Person, forgery: str
) -> None:
    code, forge = _FORGERIES[forgery]
    correlation_id = uuid4()
    headers = {**bearer(forge(stack)), "X-Correlation-Id": str(correlation_id)}
    before = written(stack)
    answer = post(stack, headers)
    assert (answer.status_code, answer.headers["www-authenticate"]) == (401, "Bearer")
    assert answer.json()["error"]["code"] == code
    assert written(stack) == before
    assert stack.rows("SELECT kind, detail->>'reason' FROM auth_events WHERE correlation_id = %s", correlation_id) == [
        ("token_refused", code)
    ]
    # Nor can it read or delete.
    assert stack.client.get(f"{PREFIX}/conversations", headers=headers).status_code == 401
    assert stack.client.delete(f"{PREFIX}/conversations/{uuid4()}", headers=headers).status_code == 401


def written(stack: ApiStack) -> list[tuple[Any, ...]]:
    return stack.rows(
        "SELECT (SELECT count(*) FROM conversations), (SELECT count(*) FROM messages), (SELECT count(*) FROM memories),"
        " (SELECT count(*) FROM memory_jobs), (SELECT count(*) FROM events), (SELECT count(*) FROM identities),"
        " (SELECT count(*) FROM user_sessions)"
    )


def test_the_body_of_a_request_without_a_good_token_is_not_read(stack: ApiStack, ana: Person) -> None:
    """Else anybody could have the API parse megabytes."""
    for token, status, parts_read in ((by_another_key(None), 401, 0), (None, 401, 0), (ana.token, 422, 1)):
        sent: list[Any] = []
        asked = asyncio.run(send_unparsable_body(stack, token, sent))
        assert (sent[0]["status"], asked) == (status, parts_read)


async def send_unparsable_body(stack: ApiStack, token: str | None, sent: list[Any]) -> int:
    """Post what is no JSON, by hand; return how often the application asked for a part of the body."""
    asked = 0

    async def receive() -> dict[str, object]:
        nonlocal asked
        asked += 1
        return {"type": "http.request", "body": b"[[[", "more_body": False}

    async def send(part: Any) -> None:
        sent.append(part)

    headers = [(b"content-type", b"application/json"), (b"host", b"testserver")]
    if token is not None:
        headers.append((b"authorization", f"Bearer {token}".encode()))
    path = f"{PREFIX}/messages"
    scope = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": "POST",
        "scheme": "http",
        "path": path,
        "raw_path": path.encode(),
        "query_string": b"",
        "root_path": "",
        "headers": headers,
        "client": ("127.0.0.1", 1),
        "server": ("testserver", 80),
    }
    await stack.client.app(scope, receive, send)
    return asked


def test_a_token_counts_in_the_authorization_header_alone(stack: ApiStack, ana: Person) -> None:
    token = ana.token
    before = written(stack)
    for sent in (
        stack.client.get(f"{PREFIX}/conversations", params={"access_token": token, "token": token}),
        stack.client.get(f"{PREFIX}/conversations", headers={"Cookie": f"access_token={token}; Authorization={token}"}),
        stack.client.get(f"{PREFIX}/conversations", headers={"X-Authorization": f"Bearer {token}"}),
        stack.client.get(f"{PREFIX}/conversations", headers={"Authorization": token}),
        stack.client.get(f"{PREFIX}/conversations", headers={"Authorization": f"Basic {token}"}),
        stack.client.get(f"{PREFIX}/conversations", headers={"Authorization": "Bearer"}),
        stack.client.get(f"{PREFIX}/conversations", headers={"Authorization": f"Bearer {token} {token}"}),
        stack.client.post(f"{PREFIX}/messages", json={"messages": [message()], "access_token": token}),
    ):
        assert sent.status_code == 401, sent.request
        assert sent.json()["error"]["code"] in {"token_missing", "token_malformed"}
        assert token not in sent.text
    assert written(stack) == before


def test_of_two_authorization_headers_none_counts(stack: ApiStack, ana: Person) -> None:
    forged = by_another_key(None)
    for pair in ((ana.token, forged), (forged, ana.token), (ana.token, ana.token)):
        headers = [("Authorization", f"Bearer {token}") for token in pair]
        answer = stack.client.get(f"{PREFIX}/conversations", headers=headers)
        assert (answer.status_code, answer.json()["error"]["code"]) == (401, "token_malformed")
    assert stack.client.get(f"{PREFIX}/conversations", headers=ana.headers).status_code == 200


@pytest.mark.parametrize("value", ["Bearer " + "x" * 60_000, "Bearer \xff\xfe", "Bearer \ud83d", "Bearer a\tb", "\x7f"])
def test_wild_authorization_headers_are_refused(stack: ApiStack, value: str) -> None:
    headers = [(b"Authorization", value.encode("utf-8", "surrogatepass"))]
    answer = stack.client.get(f"{PREFIX}/conversations", headers=headers)
    assert answer.status_code == 401
    assert answer.json()["error"]["code"] in {"token_missing", "token_malformed", "token_too_long"}


def test_an_unknown_login_waits_for_an_administrator(stack: ApiStack, administration: Administration) -> None:
    token = stack.issuer.token("new@example.org", email="new@example.org", email_verified=True)
    for _ in range(2):
        answer = post(stack, bearer(token))
        assert (answer.status_code, answer.json()["error"]["code"]) == (403, "identity_pending")
    assert stack.rows(
        "SELECT state, tenant_id, user_id, email_hint FROM identities WHERE subject = 'new@example.org'"
    ) == [("pending", None, None, "new@example.org")]
    assert stack.rows("SELECT * FROM user_sessions WHERE subject = 'new@example.org'") == []
    # Linked, it is that user at once, with the same token.
    administration.link_identity(ISSUER, "new@example.org", user_of(stack, stack.person("acme", "uma@example.org")))
    assert post(stack, bearer(token)).status_code == 200
    assert stack.rows("SELECT u.email FROM messages JOIN users u USING (tenant_id, user_id)") == [("uma@example.org",)]


def test_a_revoked_login_is_refused_at_once_with_every_token(stack: ApiStack, administration: Administration) -> None:
    rob = stack.person("acme", "rob@example.org")
    assert post(stack, rob.headers).status_code == 200
    administration.revoke_identity(ISSUER, "rob@example.org")
    for token in (rob.token, stack.issuer.token("rob@example.org")):
        answer = post(stack, bearer(token))
        assert (answer.status_code, answer.headers["www-authenticate"]) == (401, "Bearer")
        assert answer.json()["error"]["code"] in {"identity_revoked", "session_revoked"}
    assert stack.rows("SELECT count(*) FROM messages WHERE user_id = %s", rob.user_id) == [(1,)]


def test_an_ended_session_is_refused_and_a_new_token_is_not(stack: ApiStack, administration: Administration) -> None:
    sam = stack.person("acme", "sam@example.org")
    assert post(stack, sam.headers).status_code == 200
    assert administration.revoke_session(session_hash(sam.token))
    answer = post(stack, sam.headers)
    assert (answer.status_code, answer.json()["error"]["code"]) == (401, "session_revoked")
    assert post(stack, bearer(stack.issuer.token("sam@example.org"))).status_code == 200


def test_a_disabled_user_and_a_suspended_tenant_are_refused_at_once(
    stack: ApiStack, administration: Administration
) -> None:
    tim = stack.person("globex", "tim@example.org")
    assert post(stack, tim.headers).status_code == 200
    administration.set_user_status(user_of(stack, tim), "disabled")
    assert refusal(post(stack, tim.headers)) == (403, "user_disabled")
    administration.set_user_status(user_of(stack, tim), "active")
    administration.set_tenant_status("globex", "suspended")
    for answer in (
        post(stack, tim.headers),
        stack.client.get(f"{PREFIX}/conversations", headers=tim.headers),
        stack.client.delete(f"{PREFIX}/conversations/{uuid4()}", headers=tim.headers),
    ):
        assert refusal(answer) == (403, "tenant_suspended")
    administration.set_tenant_status("globex", "active")
    assert post(stack, tim.headers).status_code == 200
    # The refused ones are on record, and did not write.
    assert stack.rows("SELECT count(*) FROM messages WHERE user_id = %s", tim.user_id) == [(2,)]
    assert set(stack.rows("SELECT kind, detail->>'reason' FROM auth_events WHERE subject = 'tim@example.org'")) == {
        ("access_refused", "user_disabled"),
        ("access_refused", "tenant_suspended"),
    }


def refusal(answer: Any) -> tuple[int, str]:
    return answer.status_code, answer.json()["error"]["code"]


def test_roles_allow_what_they_name_and_the_refusal_says_what_is_missing(stack: ApiStack) -> None:
    reader = stack.person("acme", "rita@example.org", role="reader")
    assert stack.client.get(f"{PREFIX}/conversations", headers=reader.headers).status_code == 200
    for answer, permission in (
        (post(stack, reader.headers), "messages:write"),
        (stack.client.delete(f"{PREFIX}/conversations/{uuid4()}", headers=reader.headers), "conversations:delete"),
    ):
        assert refusal(answer) == (403, "forbidden")
        assert answer.json()["error"]["permission"] == permission
    assert stack.rows("SELECT count(*) FROM messages WHERE user_id = %s", reader.user_id) == [(0,)]


def test_a_flood_of_refusals_is_counted_and_not_written_down_each(stack: ApiStack) -> None:
    token = by_another_key(None, sub="flood")
    before = stack.rows("SELECT count(*) FROM auth_events")[0][0]
    for _ in range(60):
        assert stack.client.get(f"{PREFIX}/conversations", headers=bearer(token)).status_code == 401
    # 20 a minute, and a minute may have begun meanwhile.
    assert stack.rows("SELECT count(*) FROM auth_events")[0][0] - before <= 40
