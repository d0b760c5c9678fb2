-- Functions of the schema: name, whether they act with their owner's rights, the source as it was written (NULL where
-- Postgres keeps it parsed), and whether owner, search path and callers are as for those of the migrations.
SELECT p.proname::text, p.prosecdef, CASE WHEN p.prosqlbody IS NULL THEN p.prosrc END,
       p.proowner = 'memory_owner'::regrole
       AND coalesce(p.proconfig = ARRAY['search_path=memory, pg_temp'], false)
       AND p.proacl IS NOT NULL AND NOT EXISTS (SELECT FROM aclexplode(p.proacl) a WHERE a.grantee = 0)
FROM pg_proc p
WHERE p.pronamespace = 'memory'::regnamespace
ORDER BY p.proname
