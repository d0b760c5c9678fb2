"""Who a token stands for: pending, linked, revoked; a user who is disabled, a tenant that is suspended."""

from __future__ import annotations

import base64
from uuid import uuid4

import psycopg
import pytest

from memory_pipeline.model.errors import ConflictError, InvalidRequestError, NotFoundError
from memory_pipeline.serving.sessions import session_hash
from memory_pipeline.stores.postgres import directory
from memory_pipeline.stores.postgres.tenants import User
from memory_pipeline_tests.conftest import Database as DatabaseUrls
from memory_pipeline_tests.serving.identity_provider import ISSUER
from memory_pipeline_tests.serving.sessions.support import ACTOR, KEY, ORDER_OF_P256, OTHER_ISSUER, Stack

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
