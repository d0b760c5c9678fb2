-- Which of these tenants, for whom the summarizer may not run, have said something in these days.
SELECT DISTINCT s.tenant_id
FROM messages s
WHERE s.tenant_id = ANY(%(barred)s::uuid[]) AND s.sent_at >= %(start)s AND s.sent_at < %(end)s AND s.role = 'user'
