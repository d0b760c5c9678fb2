-- At which hours something was said, per tenant and UTC day.
-- By day: what is said of a day is made of that day's rows alone.
-- Key: day, tenant_id, hour
CREATE OR REPLACE TABLE mart_hourly_activity AS
WITH said AS (
    -- Counted from the epoch: `hour(sent_at)` would give the hour in the session's time zone, and takes longer.
    SELECT day, tenant_id, epoch_us(sent_at) // 3600000000 % 24 AS hour,
           count(*) AS messages, count(*) FILTER (role = 'user') AS user_messages
    FROM messages
    GROUP BY ALL
)
SELECT s.day, s.tenant_id, t.slug AS tenant, s.hour::TINYINT AS hour, s.messages, s.user_messages
FROM said s
JOIN tenants t USING (tenant_id)
ORDER BY s.day, s.tenant_id, s.hour;
COMMENT ON TABLE mart_hourly_activity IS 'At which hours something was said: one row per tenant, UTC day and hour with messages.';
COMMENT ON COLUMN mart_hourly_activity.day IS 'UTC day.'; -- DATE from messages.day
COMMENT ON COLUMN mart_hourly_activity.tenant_id IS 'Tenant that owns the row; key of tenants.'; -- UUID from messages.tenant_id
COMMENT ON COLUMN mart_hourly_activity.tenant IS 'Slug of the tenant.'; -- VARCHAR from tenants.slug
COMMENT ON COLUMN mart_hourly_activity.hour IS 'Hour of the day in UTC, 0 to 23.'; -- TINYINT from messages.sent_at
COMMENT ON COLUMN mart_hourly_activity.messages IS 'Messages of all roles.'; -- BIGINT from messages.message_id
COMMENT ON COLUMN mart_hourly_activity.user_messages IS 'Messages that users wrote.'; -- BIGINT from messages.role
