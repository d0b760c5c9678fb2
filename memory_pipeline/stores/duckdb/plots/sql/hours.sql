SELECT ['0 to 5 h', '6 to 11 h', '12 to 17 h', '18 to 23 h'][hour // 6 + 1] AS series, day, sum(messages)::BIGINT AS messages
FROM mart_hourly_activity
WHERE day > (SELECT max(day) FROM mart_hourly_activity) - 90
GROUP BY hour // 6, day
ORDER BY hour // 6, day
