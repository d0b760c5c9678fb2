-- Tenants for whom the stages may not run this plugin; of those named, or of all where none is.
SELECT t.tenant_id
FROM tenants t
WHERE (%(tenant_ids)s::uuid[] IS NULL OR t.tenant_id = ANY(%(tenant_ids)s::uuid[]))
  AND NOT EXISTS (
      SELECT FROM permitted_plugins p WHERE p.tenant_id = t.tenant_id AND p.plugin = %(plugin)s AND p.role = 'pipeline')
