-- Which topics and entities came up most in the last four weeks, and how much more than in the four before?
--
-- `mart_weekly_topics` keeps the first twenty of each week, tenant and kind, and the first twenty that several users name,
-- so a name that is rare in a week is not counted there. For exact counts ask `facts`.
WITH newest AS (
    SELECT max(week) AS week FROM mart_weekly_topics
)
SELECT t.tenant, t.kind, t.name,
       coalesce(sum(t.facts) FILTER (t.week > n.week - 28), 0)::BIGINT AS last_four_weeks,
       coalesce(sum(t.facts) FILTER (t.week <= n.week - 28), 0)::BIGINT AS four_weeks_before
FROM mart_weekly_topics t
CROSS JOIN newest n
WHERE t.week > n.week - 56
GROUP BY t.tenant, t.kind, t.name
HAVING last_four_weeks > 0
ORDER BY last_four_weeks - four_weeks_before DESC, last_four_weeks DESC, t.tenant, t.kind, t.name
LIMIT 20
