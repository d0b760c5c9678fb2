WITH said AS (
    SELECT DISTINCT day FROM mart_daily_activity WHERE messages > 0
)
SELECT d.week, count(s.day) AS with_messages, count(*) - count(s.day) AS without
FROM dim_days d
LEFT JOIN said s USING (day)
WHERE d.week > (SELECT max(week) FROM dim_days) - 7 * 90
GROUP BY d.week
ORDER BY d.week
