SELECT t.slug, t.tenant_id, t.name, t.status, t.created_at,
       (SELECT count(*) FROM users u WHERE u.tenant_id = t.tenant_id) AS users
FROM tenants t
ORDER BY t.slug
