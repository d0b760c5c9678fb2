"""Who a token stands for: subjects that are linked by the e-mail of an issuer that is trusted with it."""

from __future__ import annotations

from memory_pipeline.stores.postgres.tenants import User
from memory_pipeline_tests.serving.identity_provider import ISSUER
from memory_pipeline_tests.serving.sessions.support import KEY, TRUSTED_ISSUER, Stack, verified


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
