SELECT day, tenant, count(*) AS users, sum(messages)::BIGINT AS messages, sum(user_messages)::BIGINT AS user_messages,
       sum(facts)::BIGINT AS facts
FROM mart_user_daily
GROUP BY day, tenant_id, tenant
ORDER BY day DESC, tenant
LIMIT 10
