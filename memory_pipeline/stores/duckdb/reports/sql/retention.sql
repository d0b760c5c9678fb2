-- Retention: of the users who first wrote in a week, how many wrote again how many weeks later. A cohort counts as
-- within the days asked for if a day of its week is.
SELECT cohort_week, weeks_later, cohort_users, users, retention
FROM mart_retention
WHERE tenant_id = $tenant_id AND cohort_week BETWEEN date_trunc('week', $first_day::DATE) AND $last_day
ORDER BY cohort_week DESC, weeks_later
LIMIT $rows
