SELECT day, count(*)
FROM query_table($table)
GROUP BY day
