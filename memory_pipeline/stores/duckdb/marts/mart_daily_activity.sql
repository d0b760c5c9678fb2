-- How much was said, by how many, per tenant and UTC day.
CREATE TABLE mart_daily_activity AS
SELECT m.day, m.tenant_id, t.slug AS tenant,
       count(*) AS messages,
       count(*) FILTER (m.role = 'user') AS user_messages,
       count(DISTINCT m.user_id) AS users,
       count(DISTINCT m.conversation_id) AS conversations
FROM messages m
JOIN tenants t USING (tenant_id)
GROUP BY ALL
ORDER BY m.day, m.tenant_id
