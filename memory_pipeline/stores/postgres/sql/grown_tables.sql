-- Tables that grew by more than a fifth since they were last analyzed, and may be analyzed by this role; by their size,
-- which is known at once.
SELECT c.relname
FROM pg_class c
WHERE c.relnamespace = 'memory'::regnamespace AND c.relkind = 'r' AND has_table_privilege(c.oid, 'MAINTAIN')
  AND pg_relation_size(c.oid) / current_setting('block_size')::integer > 2 + 1.2 * c.relpages
ORDER BY c.relname
