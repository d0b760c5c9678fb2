WITH shown AS (
    SELECT * FROM mart_cost_daily WHERE day > (SELECT max(day) FROM mart_cost_daily) - 90
), ranked AS (
    SELECT model, row_number() OVER (ORDER BY sum(tokens) DESC, model) AS place, count(*) OVER () AS models
    FROM shown
    GROUP BY model
)
SELECT CASE WHEN r.place <= 8 THEN s.model
            WHEN r.models = 9 THEN '1 other'
            ELSE concat(r.models - 8, ' others') END AS series,
       s.day, sum(s.tokens)::BIGINT AS tokens, sum(s.cost_usd)::DOUBLE AS cost_usd
FROM shown s
JOIN ranked r USING (model)
GROUP BY series, s.day
ORDER BY min(r.place), s.day
