-- Growth and composition of memory: a row for each UTC day, kind and status with memories.
SELECT day, kind, status, memories, memories_so_far, share_of_day
FROM mart_memory_growth
WHERE tenant_id = $tenant_id AND day BETWEEN $first_day AND $last_day
ORDER BY day DESC, kind, status
LIMIT $rows
