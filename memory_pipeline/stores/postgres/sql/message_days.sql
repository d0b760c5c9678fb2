SELECT (sent_at AT TIME ZONE 'UTC')::date AS day, count(*) AS messages, count(DISTINCT tenant_id) AS tenants
FROM messages
GROUP BY 1
ORDER BY 1
