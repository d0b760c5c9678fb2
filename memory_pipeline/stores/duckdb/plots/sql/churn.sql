WITH changed AS (
    SELECT day, sum(began) AS began, sum(ended) AS ended, sum(sum(began) - sum(ended)) OVER (ORDER BY day) AS holding
    FROM mart_fact_churn
    GROUP BY day
), bounds AS (
    SELECT min(day) AS first_day, coalesce((SELECT max(day) FROM mart_daily_activity), max(day)) AS last_day
    FROM changed
), calendar AS (
    SELECT unnest(generate_series(greatest(first_day, last_day - 89), last_day, INTERVAL 1 DAY))::DATE AS day
    FROM bounds
)
SELECT c.day, coalesce(e.began, 0)::BIGINT AS began, coalesce(e.ended, 0)::BIGINT AS ended,
       coalesce(p.holding, 0)::BIGINT AS holding
FROM calendar c
LEFT JOIN changed e ON e.day = c.day
ASOF LEFT JOIN changed p ON c.day >= p.day
ORDER BY c.day
