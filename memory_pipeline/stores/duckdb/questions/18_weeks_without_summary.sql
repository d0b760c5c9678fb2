-- In each week, how many of the users who wrote have a summary of it?
--
-- A summary is filed under the day of the first message it rests on. A week that is not over yet may have none.
WITH wrote AS (
    SELECT DISTINCT date_trunc('week', day)::DATE AS week, tenant_id, user_id
    FROM mart_user_daily
    WHERE user_messages > 0
), summarized AS (
    SELECT DISTINCT date_trunc('week', day)::DATE AS week, tenant_id, user_id
    FROM summaries
    WHERE status = 'active'
)
SELECT w.week, count(*) AS users, count(s.user_id) AS with_summary, count(*) - count(s.user_id) AS without
FROM wrote w
LEFT JOIN summarized s USING (week, tenant_id, user_id)
GROUP BY w.week
ORDER BY w.week DESC
