-- The newest dead letters of these days, each with the number of all of them.
SELECT memory_id, day, coalesce(failure_class, '') AS failure_class, coalesce(failure_text, '') AS failure_text,
       count(*) OVER () AS total
FROM memories
WHERE status = 'failed' AND day >= %(start)s AND day < %(end)s
ORDER BY updated_at DESC, memory_id
LIMIT %(limit)s
