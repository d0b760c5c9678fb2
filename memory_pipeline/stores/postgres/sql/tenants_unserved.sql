-- Tenants that do not permit one of the plugins without which their messages wait, each with those it lacks.
SELECT t.slug, array_agg(k.plugin ORDER BY k.plugin) AS lacks
FROM tenants t
CROSS JOIN unnest(%(plugins)s::text[]) AS k (plugin)
LEFT JOIN permitted_plugins p ON p.tenant_id = t.tenant_id AND p.plugin = k.plugin AND p.role = 'pipeline'
WHERE p.plugin IS NULL
GROUP BY t.tenant_id, t.slug
ORDER BY t.tenant_id DESC
LIMIT %(limit)s
