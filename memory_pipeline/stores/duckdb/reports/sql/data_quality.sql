-- What audits looked for and found wrong: a row for each UTC day, store and problem, with 0 where the store agreed; a day
-- without an audit has none.
SELECT day, store, problem, findings, repaired, audits
FROM mart_data_quality
WHERE tenant_id = $tenant_id AND day BETWEEN $first_day AND $last_day
ORDER BY day DESC, store, problem
LIMIT $rows
