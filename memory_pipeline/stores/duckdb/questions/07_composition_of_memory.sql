-- What does memory consist of?
--
-- Every message becomes an episode; facts and summaries are drawn from episodes. A fact that a later one replaced stays,
-- with the status `superseded`.
SELECT kind, status, sum(memories)::BIGINT AS memories,
       round(sum(memories) / sum(sum(memories)) OVER (), 3) AS share
FROM mart_memory_growth
GROUP BY kind, status
ORDER BY memories DESC, kind, status
