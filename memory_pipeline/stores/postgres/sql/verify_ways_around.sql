-- One row per way around row-level security that the migrations did not make: rights, views, triggers, defaults. No row
-- means there is none for this connection. Functions are compared in isolation.py, which knows the migrations' text.
WITH RECURSIVE me AS (
    SELECT oid, rolname, pg_has_role(oid, 'memory_app', 'MEMBER') AND NOT pg_has_role(oid, 'memory_pipeline', 'MEMBER') AS is_app
    FROM pg_roles
    WHERE rolname = current_user AND NOT rolsuper
), relation AS (
    SELECT c.oid, c.relname, c.relacl, c.relowner, c.relkind,
           EXISTS (SELECT FROM pg_attribute a WHERE a.attrelid = c.oid AND a.attname = 'tenant_id' AND NOT a.attisdropped) AS has_tenant
    FROM pg_class c
    WHERE c.relnamespace = 'memory'::regnamespace AND c.relkind IN ('r', 'p', 'f', 'v', 'm')
), open_to_app (relname, privilege) AS (
    -- What memory_app may do where no tenant narrows it down.
    VALUES ('migration_history', 'SELECT'), ('installation', 'SELECT'), ('roles', 'SELECT'), ('permissions', 'SELECT'),
           ('role_permissions', 'SELECT'), ('plugin_registry', 'SELECT'), ('auth_events', 'INSERT')
), locked (relname, tgname) AS (
    -- What keeps a row in its tenant, and in company of rows of its tenant.
    VALUES ('users', 'users_tenant_is_locked'), ('identities', 'identities_stay'),
           ('messages', 'users_exist'), ('messages', 'conversations_exist'),
           ('memories', 'users_exist'), ('memories', 'conversations_exist')
), reader (oid) AS (
    -- Views over our tables, and views over those, wherever they are.
    SELECT r.oid FROM relation r
    UNION
    SELECT w.ev_class
    FROM reader
    JOIN pg_depend d ON d.refclassid = 'pg_class'::regclass AND d.refobjid = reader.oid AND d.classid = 'pg_rewrite'::regclass
    JOIN pg_rewrite w ON w.oid = d.objid
)
SELECT format('the connection logs in as %%s and works as %%s, which it may undo', session_user, current_user)
WHERE session_user <> current_user
UNION ALL
SELECT format('a connection begins as tenant %%s, set for the role or the database', current_setting('app.tenant_id', true))
WHERE NULLIF(current_setting('app.tenant_id', true), '') IS NOT NULL
UNION ALL
SELECT format('role %%s may create objects in schema memory', me.rolname)
FROM me
WHERE has_schema_privilege(me.oid, 'memory', 'CREATE')
UNION ALL
SELECT format('everybody (PUBLIC) has rights on %%s', r.relname)
FROM relation r
WHERE EXISTS (SELECT FROM aclexplode(r.relacl) a WHERE a.grantee = 0)
   OR EXISTS (SELECT FROM pg_attribute c, aclexplode(c.attacl) a WHERE c.attrelid = r.oid AND a.grantee = 0)
UNION ALL
-- Row-level security narrows down none of these.
SELECT format('role %%s has TRUNCATE, TRIGGER or REFERENCES on %%s', me.rolname, r.relname)
FROM me
CROSS JOIN relation r
WHERE has_table_privilege(me.oid, r.oid, 'TRUNCATE, TRIGGER') OR has_any_column_privilege(me.oid, r.oid, 'REFERENCES')
UNION ALL
SELECT format('role %%s has %%s on %%s, which holds more than one tenant''s', me.rolname, p.privilege, r.relname)
FROM me
CROSS JOIN relation r
CROSS JOIN (VALUES ('SELECT'), ('INSERT'), ('UPDATE'), ('DELETE')) p (privilege)
WHERE me.is_app AND NOT r.has_tenant AND r.relkind IN ('r', 'p', 'f')
  AND CASE p.privilege WHEN 'DELETE' THEN has_table_privilege(me.oid, r.oid, 'DELETE')
                       ELSE has_any_column_privilege(me.oid, r.oid, p.privilege) END
  AND NOT EXISTS (SELECT FROM open_to_app o WHERE o.relname = r.relname AND o.privilege = p.privilege)
UNION ALL
SELECT format('role %%s may change or delete %%s, which are only added to', me.rolname, r.relname)
FROM me
CROSS JOIN relation r
WHERE r.relname IN ('events', 'auth_events')
  AND (has_table_privilege(me.oid, r.oid, 'DELETE') OR has_any_column_privilege(me.oid, r.oid, 'UPDATE'))
UNION ALL
SELECT format('trigger %%s of table %%s is missing or turned off', l.tgname, l.relname)
FROM locked l
WHERE NOT EXISTS (
    SELECT FROM pg_trigger t
    JOIN relation r ON r.oid = t.tgrelid
    WHERE r.relname = l.relname AND t.tgname = l.tgname AND t.tgenabled IN ('O', 'A') AND NOT t.tgisinternal)
UNION ALL
SELECT format('view %%s reads memory with the rights of its owner', c.oid::regclass)
FROM me
CROSS JOIN reader
JOIN pg_class c ON c.oid = reader.oid
WHERE c.relnamespace <> 'memory'::regnamespace AND has_schema_privilege(me.oid, c.relnamespace, 'USAGE')
  AND has_any_column_privilege(me.oid, c.oid, 'SELECT')
  AND (c.relkind = 'm' OR c.relkind = 'v' AND NOT coalesce(
      c.reloptions && ARRAY['security_invoker=true', 'security_invoker=on', 'security_invoker=1'], false))
UNION ALL
SELECT format('function %%s acts with the rights of %%s, which reads every tenant', p.oid::regprocedure, o.rolname)
FROM me
CROSS JOIN pg_proc p
JOIN pg_roles o ON o.oid = p.proowner
WHERE p.prosecdef AND p.pronamespace <> 'memory'::regnamespace
  AND (o.rolsuper OR o.rolbypassrls OR pg_has_role(o.oid, 'memory_owner', 'MEMBER') OR pg_has_role(o.oid, 'memory_pipeline', 'MEMBER'))
  AND has_function_privilege(me.oid, p.oid, 'EXECUTE') AND has_schema_privilege(me.oid, p.pronamespace, 'USAGE')
  -- An extension's own, which came with the server.
  AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.classid = 'pg_proc'::regclass AND d.objid = p.oid AND d.deptype = 'e')
