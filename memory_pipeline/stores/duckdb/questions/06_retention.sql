-- Of the users who began to write, how many wrote again n weeks later?
--
-- `mart_retention` has no row where nobody of a cohort wrote; so cohorts are counted from their first week, and only
-- those that are old enough to have come back after n weeks.
WITH cohorts AS (
    SELECT tenant_id, cohort_week, cohort_users,
           date_diff('week', cohort_week, (SELECT max(week) FROM dim_days)) AS age
    FROM mart_retention
    WHERE weeks_later = 0
), weeks AS (
    SELECT unnest(range(max(age) + 1)) AS weeks_later FROM cohorts
)
SELECT w.weeks_later,
       sum(c.cohort_users)::BIGINT AS cohort_users,
       coalesce(sum(r.users), 0)::BIGINT AS users,
       round(coalesce(sum(r.users), 0) / sum(c.cohort_users), 3) AS retention
FROM weeks w
JOIN cohorts c ON c.age >= w.weeks_later
LEFT JOIN mart_retention r
    ON r.tenant_id = c.tenant_id AND r.cohort_week = c.cohort_week AND r.weeks_later = w.weeks_later
GROUP BY w.weeks_later
ORDER BY w.weeks_later
