-- How much was said, by how many, per tenant and UTC day.
-- By day: what is said of a day is made of that day's rows alone.
-- Key: day, tenant_id
CREATE OR REPLACE TABLE mart_daily_activity AS
SELECT m.day, m.tenant_id, t.slug AS tenant,
       count(*) AS messages,
       count(*) FILTER (m.role = 'user') AS user_messages,
       count(DISTINCT m.user_id) AS users,
       count(DISTINCT m.conversation_id) AS conversations
FROM messages m
JOIN tenants t USING (tenant_id)
GROUP BY ALL
ORDER BY m.day, m.tenant_id;
COMMENT ON TABLE mart_daily_activity IS 'How much was said, by how many: one row per tenant and UTC day with messages.';
COMMENT ON COLUMN mart_daily_activity.day IS 'UTC day.'; -- DATE from messages.day
COMMENT ON COLUMN mart_daily_activity.tenant_id IS 'Tenant that owns the row; key of tenants.'; -- UUID from messages.tenant_id
COMMENT ON COLUMN mart_daily_activity.tenant IS 'Slug of the tenant.'; -- VARCHAR from tenants.slug
COMMENT ON COLUMN mart_daily_activity.messages IS 'Messages of all roles.'; -- BIGINT from messages.message_id
COMMENT ON COLUMN mart_daily_activity.user_messages IS 'Messages that users wrote.'; -- BIGINT from messages.role
COMMENT ON COLUMN mart_daily_activity.users IS 'Users whose conversations had messages.'; -- BIGINT from messages.user_id
COMMENT ON COLUMN mart_daily_activity.conversations IS 'Conversations with messages.'; -- BIGINT from messages.conversation_id
