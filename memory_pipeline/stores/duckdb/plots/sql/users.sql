WITH shown AS (
    SELECT day,
           CASE WHEN messages = 0 THEN 0
                WHEN messages = 1 THEN 1
                WHEN messages <= 5 THEN 2
                WHEN messages <= 20 THEN 3
                ELSE 4 END AS band
    FROM mart_user_daily
    WHERE day > (SELECT max(day) FROM mart_user_daily) - 90
)
SELECT ['no message', '1 message', '2 to 5', '6 to 20', 'more than 20'][band + 1] AS series, day, count(*) AS users
FROM shown
GROUP BY band, day
ORDER BY band, day
