-- What tells this database from any other, but for the cluster's system_identifier, which may be out of reach.
SELECT i.installation_id, d.datname AS database, d.oid::bigint AS database_oid,
       has_function_privilege('pg_control_system()', 'EXECUTE') AS cluster_readable,
       (SELECT format('%s_%s', lpad(h.version::text, 4, '0'), h.name)
        FROM memory.migration_history h ORDER BY h.version DESC LIMIT 1) AS schema_version
FROM memory.installation i
JOIN pg_database d ON d.datname = current_database()
