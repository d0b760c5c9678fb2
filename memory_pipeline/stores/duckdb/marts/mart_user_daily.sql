-- What each user said and what was learned from it, per UTC day.
CREATE TABLE mart_user_daily AS
WITH said AS (
    SELECT day, tenant_id, user_id, count(*) AS messages, count(DISTINCT conversation_id) AS conversations
    FROM messages
    GROUP BY ALL
), learned AS (
    SELECT day, tenant_id, user_id, count(*) AS facts
    FROM facts
    GROUP BY ALL
)
SELECT day, tenant_id, t.slug AS tenant, user_id, u.email,
       coalesce(s.messages, 0) AS messages,
       coalesce(s.conversations, 0) AS conversations,
       coalesce(l.facts, 0) AS facts
FROM said s
FULL JOIN learned l USING (day, tenant_id, user_id)
JOIN users u USING (tenant_id, user_id)
JOIN tenants t USING (tenant_id)
ORDER BY day, tenant_id, user_id
