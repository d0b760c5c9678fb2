-- At which hours (UTC) do users write?
--
-- Hours are in no mart, so this asks the messages themselves. `role = 'user'` leaves out what assistants and tools said.
SELECT hour(sent_at AT TIME ZONE 'UTC') AS hour, count(*) AS messages, round(avg(length(content)), 1) AS characters
FROM messages
WHERE role = 'user'
GROUP BY hour
ORDER BY hour
