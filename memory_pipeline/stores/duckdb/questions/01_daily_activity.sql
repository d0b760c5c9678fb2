-- How much was said on each of the last thirty days, and by how many?
--
-- The calendar `dim_days` brings the days on which nobody said anything. "Last" counts from the newest message, so that
-- the question means the same on a file of any age.
SELECT d.day, d.weekday,
       coalesce(sum(a.messages), 0)::BIGINT AS messages,
       coalesce(sum(a.users), 0)::BIGINT AS users,
       coalesce(sum(a.conversations), 0)::BIGINT AS conversations
FROM dim_days d
LEFT JOIN mart_daily_activity a USING (day)
WHERE d.day > (SELECT max(day) - 30 FROM dim_days)
GROUP BY d.day, d.weekday
ORDER BY d.day DESC
