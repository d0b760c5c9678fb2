-- How many facts began and ended to hold: a row for each UTC day with either.
SELECT day, began, ended, holding
FROM mart_fact_churn
WHERE tenant_id = $tenant_id AND day BETWEEN $first_day AND $last_day
ORDER BY day DESC
LIMIT $rows
