-- What each user said and what was learned from it, per UTC day.
-- By day: what is said of a day is made of that day's rows alone.
-- Key: day, tenant_id, user_id
CREATE OR REPLACE TABLE mart_user_daily AS
WITH said AS (
    SELECT day, tenant_id, user_id, count(*) AS messages, count(*) FILTER (role = 'user') AS user_messages,
           count(DISTINCT conversation_id) AS conversations
    FROM messages
    GROUP BY ALL
), learned AS (
    SELECT day, tenant_id, user_id, count(*) AS facts
    FROM facts
    GROUP BY ALL
)
SELECT day, tenant_id, t.slug AS tenant, user_id, u.email,
       coalesce(s.messages, 0) AS messages,
       coalesce(s.user_messages, 0) AS user_messages,
       coalesce(s.conversations, 0) AS conversations,
       coalesce(l.facts, 0) AS facts
FROM said s
FULL JOIN learned l USING (day, tenant_id, user_id)
JOIN users u USING (tenant_id, user_id)
JOIN tenants t USING (tenant_id)
ORDER BY day, tenant_id, user_id;
COMMENT ON TABLE mart_user_daily IS 'What each user said and what was learned from it: one row per user and UTC day.';
COMMENT ON COLUMN mart_user_daily.day IS 'UTC day.'; -- DATE from messages.day, facts.day
COMMENT ON COLUMN mart_user_daily.tenant_id IS 'Tenant that owns the row; key of tenants.'; -- UUID from messages.tenant_id, facts.tenant_id
COMMENT ON COLUMN mart_user_daily.tenant IS 'Slug of the tenant.'; -- VARCHAR from tenants.slug
COMMENT ON COLUMN mart_user_daily.user_id IS 'User whose memory it is; key of users within the tenant.'; -- UUID from messages.user_id, facts.user_id
COMMENT ON COLUMN mart_user_daily.email IS 'E-mail of the user, in lower case.'; -- VARCHAR from users.email
COMMENT ON COLUMN mart_user_daily.messages IS 'Messages in the user''s conversations, of all roles.'; -- BIGINT from messages.message_id
COMMENT ON COLUMN mart_user_daily.user_messages IS 'Messages that the user wrote.'; -- BIGINT from messages.role
COMMENT ON COLUMN mart_user_daily.conversations IS 'Conversations with messages.'; -- BIGINT from messages.conversation_id
COMMENT ON COLUMN mart_user_daily.facts IS 'Facts found in messages of that day.'; -- BIGINT from facts.fact_id
