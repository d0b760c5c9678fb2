WITH bounds AS (
    SELECT greatest(max(day), (SELECT max(day) FROM events)) AS last_day FROM mart_data_quality
), shown AS (
    SELECT * FROM mart_data_quality WHERE findings > 0 AND day > (SELECT last_day FROM bounds) - 90
), ranked AS (
    SELECT store, problem, row_number() OVER (ORDER BY sum(findings) DESC, store, problem) AS place,
           count(*) OVER () AS problems
    FROM shown
    GROUP BY store, problem
), named AS (
    SELECT store, problem, place,
           CASE WHEN place <= 8 THEN concat(store, ': ', problem)
                WHEN problems = 9 THEN '1 other'
                ELSE concat(problems - 8, ' others') END AS series
    FROM ranked
), counted AS (
    SELECT n.place, n.series, s.day, s.findings, s.repaired
    FROM shown s
    JOIN named n USING (store, problem)
    UNION ALL
    SELECT n.place, n.series, b.last_day, 0, 0
    FROM named n, bounds b
)
SELECT series, day, sum(findings)::BIGINT AS findings, sum(repaired)::BIGINT AS repaired
FROM counted
GROUP BY series, day
ORDER BY min(place), day
