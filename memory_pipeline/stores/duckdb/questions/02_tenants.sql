-- How do the tenants compare?
--
-- Each user belongs to one tenant for ever, so users can be counted within it. A tenant without messages has zeros.
SELECT t.slug AS tenant,
       count(DISTINCT u.user_id) AS users,
       coalesce(sum(u.messages), 0)::BIGINT AS messages,
       coalesce(sum(u.facts), 0)::BIGINT AS facts,
       round(100 * sum(u.facts) / nullif(sum(u.messages), 0), 1) AS facts_per_100_messages,
       max(u.day) AS last_day
FROM tenants t
LEFT JOIN mart_user_daily u USING (tenant_id)
GROUP BY t.slug
ORDER BY messages DESC, tenant
