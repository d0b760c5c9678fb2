SELECT month, count(*) AS days, count(*) FILTER (is_weekend) AS weekend_days,
       min(day) AS first_day, max(day) AS last_day
FROM dim_days
GROUP BY month
ORDER BY month DESC
LIMIT 10
