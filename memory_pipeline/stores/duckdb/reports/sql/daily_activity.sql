-- How much was said, by how many: a row for each UTC day with messages.
SELECT day, messages, user_messages, users, conversations
FROM mart_daily_activity
WHERE tenant_id = $tenant_id AND day BETWEEN $first_day AND $last_day
ORDER BY day DESC
LIMIT $rows
