-- How does memory grow from month to month?
--
-- Days are those of the messages that memories come from, not of the run that wrote them: an import of old
-- conversations grows old months.
WITH monthly AS (
    SELECT date_trunc('month', day)::DATE AS month, kind, sum(memories)::BIGINT AS memories
    FROM mart_memory_growth
    GROUP BY month, kind
)
SELECT month, kind, memories,
       sum(memories) OVER (PARTITION BY kind ORDER BY month)::BIGINT AS memories_so_far
FROM monthly
ORDER BY month, kind
