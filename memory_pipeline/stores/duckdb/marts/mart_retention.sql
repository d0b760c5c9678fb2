-- Of the users who wrote for the first time in one week, how many wrote again in each week after.
-- Key: cohort_week, tenant_id, weeks_later
CREATE OR REPLACE TABLE mart_retention AS
WITH active AS (
    SELECT DISTINCT tenant_id, user_id, date_trunc('week', day)::DATE AS week
    FROM mart_user_daily
    WHERE user_messages > 0
), firsts AS (
    SELECT tenant_id, user_id, week, min(week) OVER (PARTITION BY tenant_id, user_id) AS cohort_week
    FROM active
), retained AS (
    SELECT tenant_id, cohort_week, date_diff('week', cohort_week, week) AS weeks_later, count(*) AS users
    FROM firsts
    GROUP BY ALL
)
SELECT r.cohort_week, r.tenant_id, t.slug AS tenant, r.weeks_later, c.users AS cohort_users, r.users,
       r.users / c.users AS retention
FROM retained r
JOIN retained c ON c.tenant_id = r.tenant_id AND c.cohort_week = r.cohort_week AND c.weeks_later = 0
JOIN tenants t ON t.tenant_id = r.tenant_id
ORDER BY r.cohort_week, r.tenant_id, r.weeks_later;
COMMENT ON TABLE mart_retention IS 'Retention cohorts: of the users who first wrote in a week, who wrote again how many weeks later.';
COMMENT ON COLUMN mart_retention.cohort_week IS 'Monday of the week in which these users first wrote.'; -- DATE from mart_user_daily.day
COMMENT ON COLUMN mart_retention.tenant_id IS 'Tenant that owns the row; key of tenants.'; -- UUID from mart_user_daily.tenant_id
COMMENT ON COLUMN mart_retention.tenant IS 'Slug of the tenant.'; -- VARCHAR from tenants.slug
COMMENT ON COLUMN mart_retention.weeks_later IS 'Weeks since; 0 is the first week itself.'; -- BIGINT from mart_user_daily.day
COMMENT ON COLUMN mart_retention.cohort_users IS 'Users who first wrote in cohort_week.'; -- BIGINT from mart_user_daily.user_id
COMMENT ON COLUMN mart_retention.users IS 'Those of them who wrote in this week; no row where nobody did.'; -- BIGINT from mart_user_daily.user_id, mart_user_daily.user_messages
COMMENT ON COLUMN mart_retention.retention IS 'users / cohort_users, 0 to 1.'; -- DOUBLE from mart_user_daily.user_id
