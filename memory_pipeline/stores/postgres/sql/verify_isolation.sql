-- One row per reason not to trust tenant isolation on this connection; no row means it holds. %(role)s is the role the
-- process means to work as, or NULL where either of the two will do. Expressions are compared as Postgres prints them
-- with search_path = memory, public.
WITH me AS (
    SELECT oid, rolname, rolsuper,
           pg_has_role(oid, 'memory_app', 'MEMBER') AS is_app,
           pg_has_role(oid, 'memory_pipeline', 'MEMBER') AS is_pipeline
    FROM pg_roles
    WHERE rolname = current_user
), tenant_table AS (
    SELECT c.oid, c.relname, c.relrowsecurity AND c.relforcerowsecurity AS forced
    FROM pg_class c
    JOIN pg_attribute a ON a.attrelid = c.oid AND a.attname = 'tenant_id' AND NOT a.attisdropped
    WHERE c.relnamespace = 'memory'::regnamespace AND c.relkind IN ('r', 'p')
), expected_policy (name, role, expression, everywhere) AS (
    VALUES ('tenant_isolation', 'memory_app', '(tenant_id = ( SELECT current_tenant_id() AS current_tenant_id))', true),
           ('pipeline_all_tenants', 'memory_pipeline', 'true', true),
           ('owner_functions', 'memory_owner', 'true', false)
), read_by_owner_functions (relname) AS (
    -- Nothing that holds what people said is among what the functions of memory_owner touch.
    VALUES ('identities'), ('user_sessions'), ('user_roles'), ('plugin_installs'), ('users'), ('tenants'), ('events')
), found_policy AS (
    SELECT p.polrelid, p.polname, e.name IS NOT NULL
           AND (e.everywhere OR c.relname IN (SELECT relname FROM read_by_owner_functions)) AS as_expected
    FROM pg_policy p
    JOIN pg_class c ON c.oid = p.polrelid
    LEFT JOIN expected_policy e ON e.name = p.polname
        AND p.polroles = ARRAY[e.role::regrole::oid] AND p.polcmd = '*' AND p.polpermissive
        AND pg_get_expr(p.polqual, p.polrelid) = e.expression
        AND pg_get_expr(p.polwithcheck, p.polrelid) = e.expression
)
SELECT CASE WHEN r.oid = me.oid THEN format('role %%s is a superuser or has BYPASSRLS', me.rolname)
            ELSE format('role %%s may become %%s, a superuser or a role with BYPASSRLS', me.rolname, r.rolname) END
FROM me
JOIN pg_roles r ON r.oid = me.oid OR NOT me.rolsuper AND pg_has_role(me.oid, r.oid, 'MEMBER')
WHERE r.rolsuper OR r.rolbypassrls
UNION ALL
SELECT format('role %%s owns, or may become the owner of, tables: %%s', me.rolname, string_agg(c.relname, ', ' ORDER BY c.relname))
FROM me
JOIN pg_class c ON c.relnamespace = 'memory'::regnamespace AND c.relkind IN ('r', 'p')
    AND NOT me.rolsuper AND pg_has_role(me.oid, c.relowner, 'MEMBER')
GROUP BY me.rolname
UNION ALL
SELECT CASE WHEN is_app AND is_pipeline THEN
                format('role %%s belongs to both memory_app and memory_pipeline, so it sees every tenant', rolname)
            ELSE format('role %%s is not %%s', rolname, coalesce(%(role)s, 'memory_app or memory_pipeline')) END
FROM me
WHERE NOT rolsuper
  AND (is_app = is_pipeline OR %(role)s = 'memory_app' AND NOT is_app OR %(role)s = 'memory_pipeline' AND NOT is_pipeline)
UNION ALL
SELECT format('table %%s has no forced row-level security', relname)
FROM tenant_table
WHERE NOT forced
UNION ALL
SELECT format('table %%s lacks the policy %%s of %%s', t.relname, e.name, e.role)
FROM tenant_table t
CROSS JOIN expected_policy e
WHERE e.everywhere
  AND NOT EXISTS (SELECT FROM found_policy p WHERE p.polrelid = t.oid AND p.polname = e.name)
UNION ALL
SELECT format('table %%s has a policy other than was migrated: %%s', t.relname, p.polname)
FROM tenant_table t
JOIN found_policy p ON p.polrelid = t.oid
WHERE NOT p.as_expected
UNION ALL
SELECT 'current_tenant_id() is not as it was migrated'
WHERE NOT EXISTS (
    SELECT FROM pg_proc p
    WHERE p.pronamespace = 'memory'::regnamespace AND p.proname = 'current_tenant_id'
      AND pg_get_function_sqlbody(p.oid)
          = $$RETURN (NULLIF(current_setting('app.tenant_id'::text, true), ''::text))::uuid$$)
UNION ALL
SELECT format('view %%s reads with the rights of its owner', relname)
FROM pg_class
WHERE relnamespace = 'memory'::regnamespace
  AND (relkind = 'm' OR relkind = 'v' AND NOT coalesce(
      reloptions && ARRAY['security_invoker=true', 'security_invoker=on', 'security_invoker=1'], false))
