-- Link a subject to a user; the trigger refuses another tenant, and another user while it is linked.
INSERT INTO identities AS i (issuer, subject, state, tenant_id, user_id, changed_by)
VALUES (%(issuer)s, %(subject)s, 'linked', %(tenant_id)s, %(user_id)s, %(actor)s)
ON CONFLICT (issuer, subject) DO UPDATE
SET state = 'linked', tenant_id = excluded.tenant_id, user_id = excluded.user_id, changed_by = excluded.changed_by,
    changed_at = clock_timestamp()
