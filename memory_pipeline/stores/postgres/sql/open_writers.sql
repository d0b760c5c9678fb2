-- Transactions of this database that have written. Everybody may see the id of another role's, and not since when it is
-- open: NULL then.
SELECT backend_xid::text::bigint AS xid, extract(epoch FROM clock_timestamp() - xact_start)::float8 AS seconds
FROM pg_stat_activity
WHERE datname = current_database() AND backend_xid IS NOT NULL
