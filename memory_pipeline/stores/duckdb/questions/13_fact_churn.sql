-- How many facts begin and end each week, and how many hold at its end?
--
-- Facts may begin later than they were said ("we move in May"), so weeks after the last message can appear.
WITH weekly AS (
    SELECT date_trunc('week', day)::DATE AS week, sum(began)::BIGINT AS began, sum(ended)::BIGINT AS ended
    FROM mart_fact_churn
    GROUP BY week
)
SELECT week, began, ended, sum(began - ended) OVER (ORDER BY week)::BIGINT AS holding
FROM weekly
ORDER BY week
