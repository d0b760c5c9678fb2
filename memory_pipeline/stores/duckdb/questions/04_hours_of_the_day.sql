-- At which hours (UTC) do users write?
--
-- Hours are in no mart, so this asks the messages themselves. `role = 'user'` leaves out what assistants and tools said.
-- `hour(sent_at)` would give the hour in the session's time zone; counting from the epoch is UTC anywhere, and fast.
SELECT hour(make_timestamp(epoch_us(sent_at))) AS hour, count(*) AS messages
FROM messages
WHERE role = 'user'
GROUP BY hour
ORDER BY hour
