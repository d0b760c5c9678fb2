WITH retained AS (
    SELECT cohort_week, weeks_later, sum(users) AS users FROM mart_retention GROUP BY cohort_week, weeks_later
), cohorts AS (
    SELECT cohort_week, users FROM retained WHERE weeks_later = 0 ORDER BY cohort_week DESC LIMIT 12
), weeks AS (
    SELECT unnest(range(13)) AS weeks_later
), reached AS (
    SELECT max(cohort_week + 7 * weeks_later::INTEGER) AS week FROM retained
)
SELECT c.cohort_week, c.users::BIGINT AS cohort_users, w.weeks_later, coalesce(r.users, 0) / c.users AS retention
FROM cohorts c
JOIN weeks w ON c.cohort_week + 7 * w.weeks_later::INTEGER <= (SELECT week FROM reached)
LEFT JOIN retained r ON r.cohort_week = c.cohort_week AND r.weeks_later = w.weeks_later
ORDER BY c.cohort_week, w.weeks_later
