-- How do the tenants compare?
--
-- Each user belongs to one tenant for ever, so users can be counted within it: all of them, and those with messages or
-- facts. A tenant without any has zeros.
WITH registered AS (
    SELECT tenant_id, count(*) AS users
    FROM users
    GROUP BY tenant_id
), active AS (
    SELECT tenant_id, count(DISTINCT user_id) AS users, sum(messages)::BIGINT AS messages, sum(facts)::BIGINT AS facts,
           max(day) AS last_day
    FROM mart_user_daily
    GROUP BY tenant_id
)
SELECT t.slug AS tenant,
       coalesce(r.users, 0) AS users,
       coalesce(a.users, 0) AS active_users,
       coalesce(a.messages, 0) AS messages,
       coalesce(a.facts, 0) AS facts,
       round(100 * a.facts / nullif(a.messages, 0), 1) AS facts_per_100_messages,
       a.last_day
FROM tenants t
LEFT JOIN registered r USING (tenant_id)
LEFT JOIN active a USING (tenant_id)
ORDER BY messages DESC, tenant
