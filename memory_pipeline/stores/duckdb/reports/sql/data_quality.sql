-- What audits found wrong: a row for each UTC day, store and problem; a day on which every store agreed has none.
SELECT day, store, problem, findings, repaired, audits
FROM mart_data_quality
WHERE tenant_id = $tenant_id AND day BETWEEN $first_day AND $last_day
ORDER BY day DESC, store, problem
LIMIT $rows
