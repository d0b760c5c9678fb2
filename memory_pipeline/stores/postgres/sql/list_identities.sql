-- Identities, newest first, with the user each is linked to.
SELECT i.issuer, i.subject, i.state, t.slug AS tenant, u.email, i.email_hint, i.first_seen_at, i.changed_at, i.changed_by
FROM identities i
LEFT JOIN users u ON (u.tenant_id, u.user_id) = (i.tenant_id, i.user_id)
LEFT JOIN tenants t ON t.tenant_id = i.tenant_id
WHERE (%(state)s::text IS NULL OR i.state = %(state)s)
  AND (%(tenant)s::text IS NULL OR t.slug = %(tenant)s)
  AND (%(email)s::text IS NULL OR u.email = lower(%(email)s))
ORDER BY i.first_seen_at DESC, i.issuer, i.subject
LIMIT %(limit)s
