-- At which hours (UTC) do users write?
--
-- Hours may be added up over days and tenants. `user_messages` leaves out what assistants and tools said.
SELECT hour, sum(user_messages)::BIGINT AS messages
FROM mart_hourly_activity
GROUP BY hour
HAVING sum(user_messages) > 0
ORDER BY hour
