-- The stored limits of one tenant, or of all, those of a whole tenant before those of its users.
SELECT t.slug AS tenant, u.email, l.what, l.per_hour, l.changed_by, l.changed_at
FROM memory_rate_limits l
JOIN tenants t USING (tenant_id)
LEFT JOIN users u USING (tenant_id, user_id)
WHERE %(tenant)s::text IS NULL OR t.slug = %(tenant)s
ORDER BY t.slug, u.email NULLS FIRST, l.what
