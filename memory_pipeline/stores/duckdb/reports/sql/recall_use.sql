-- How recall was used and how well it answered: a row for each UTC day with recalls.
SELECT day, recalls, users, questions, answered, hit_rate, memories_per_answer, degraded, degraded_share, cached,
       cached_share, p50_milliseconds, p95_milliseconds
FROM mart_recall_use
WHERE tenant_id = $tenant_id AND day BETWEEN $first_day AND $last_day
ORDER BY day DESC
LIMIT $rows
