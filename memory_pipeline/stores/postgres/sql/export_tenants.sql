SELECT tenant_id, slug, name, created_at
FROM tenants
ORDER BY tenant_id
