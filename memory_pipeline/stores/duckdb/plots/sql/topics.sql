SELECT CASE kind WHEN 'entity' THEN 'entities' ELSE 'topics' END AS series, week, sum(facts)::BIGINT AS facts
FROM mart_weekly_topics
WHERE week > (SELECT max(week) FROM mart_weekly_topics) - 7 * 90
GROUP BY kind, week
ORDER BY kind, week
