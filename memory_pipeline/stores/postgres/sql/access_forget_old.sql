-- Whole days of UTC, so that a day of the lake goes at once and is not written anew with every hour.
WITH old AS MATERIALIZED (
    SELECT tenant_id, access_id
    FROM memory_access_log
    WHERE accessed_at < date_trunc('day', clock_timestamp(), 'UTC') - make_interval(days => %(retention_days)s)
    ORDER BY accessed_at
    LIMIT %(limit)s
)
DELETE FROM memory_access_log a
USING old o
WHERE a.tenant_id = o.tenant_id AND a.access_id = o.access_id
