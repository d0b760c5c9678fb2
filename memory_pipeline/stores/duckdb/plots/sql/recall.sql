SELECT day, sum(answered)::BIGINT AS answered, sum(recalls - answered)::BIGINT AS unanswered,
       sum(degraded)::BIGINT AS degraded
FROM mart_recall_use
WHERE day > (SELECT max(day) FROM mart_recall_use) - 90
GROUP BY day
ORDER BY day
