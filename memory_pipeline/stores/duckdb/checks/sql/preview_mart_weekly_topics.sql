SELECT week, tenant, kind, count(*) AS names, sum(facts)::BIGINT AS facts, max(facts) AS facts_of_the_first
FROM mart_weekly_topics
GROUP BY week, tenant_id, tenant, kind
ORDER BY week DESC, tenant, kind
LIMIT 10
