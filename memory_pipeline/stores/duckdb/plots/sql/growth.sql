WITH added AS (
    SELECT kind, day, sum(memories) AS memories FROM mart_memory_growth GROUP BY kind, day
), calendar AS (
    SELECT kind, day::DATE AS day
    FROM (SELECT DISTINCT kind FROM added),
         (SELECT unnest(generate_series(min(day), max(day), INTERVAL 1 DAY)) AS day FROM added)
), total AS (
    SELECT c.kind, c.day, sum(coalesce(a.memories, 0)) OVER (PARTITION BY c.kind ORDER BY c.day)::BIGINT AS memories
    FROM calendar c
    LEFT JOIN added a USING (kind, day)
)
SELECT kind, day, memories
FROM total
WHERE day > (SELECT max(day) FROM added) - 90
ORDER BY max(memories) OVER (PARTITION BY kind) DESC, kind, day
