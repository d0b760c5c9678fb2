-- As access_forget_old.
WITH old AS MATERIALIZED (
    SELECT tenant_id, usage_id
    FROM llm_usage
    WHERE used_at < date_trunc('day', clock_timestamp(), 'UTC') - make_interval(days => %(retention_days)s)
    ORDER BY used_at
    LIMIT %(limit)s
)
DELETE FROM llm_usage u
USING old o
WHERE u.tenant_id = o.tenant_id AND u.usage_id = o.usage_id
