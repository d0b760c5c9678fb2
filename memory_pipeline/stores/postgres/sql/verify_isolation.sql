-- One row per reason not to trust tenant isolation on this connection; no row means it holds.
SELECT format('role %s is a superuser or has BYPASSRLS', rolname)
FROM pg_roles
WHERE rolname = current_user AND (rolsuper OR rolbypassrls)
UNION ALL
SELECT format('role %s owns table %s', current_user, relname)
FROM pg_class
WHERE relnamespace = 'memory'::regnamespace AND relkind = 'r' AND relowner = current_user::regrole
UNION ALL
SELECT format('table %s has no forced row-level security', c.relname)
FROM pg_class c
JOIN pg_attribute a ON a.attrelid = c.oid AND a.attname = 'tenant_id' AND NOT a.attisdropped
WHERE c.relnamespace = 'memory'::regnamespace AND c.relkind = 'r'
  AND NOT (c.relrowsecurity AND c.relforcerowsecurity)
UNION ALL
-- memory_app may be let in by the tenant's own policy and no other
SELECT format('table %s has policies for memory_app other than tenant_isolation: %s', c.relname,
              coalesce(string_agg(p.polname, ', '), 'none'))
FROM pg_class c
JOIN pg_attribute a ON a.attrelid = c.oid AND a.attname = 'tenant_id' AND NOT a.attisdropped
LEFT JOIN pg_policy p ON p.polrelid = c.oid
    AND (p.polroles = '{0}' OR 'memory_app'::regrole = ANY (p.polroles))
WHERE c.relnamespace = 'memory'::regnamespace AND c.relkind = 'r'
GROUP BY c.relname
HAVING count(p.*) <> 1
    OR bool_or(p.polname <> 'tenant_isolation')
    OR bool_or(pg_get_expr(p.polqual, p.polrelid) NOT LIKE '%current_tenant_id()%')
    OR bool_or(pg_get_expr(p.polwithcheck, p.polrelid) NOT LIKE '%current_tenant_id()%');
