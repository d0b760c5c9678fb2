-- Which conversations are the longest, and what came of them?
--
-- Counted within the tenant and conversation first, then named: joining a million messages with their names would only
-- take longer.
WITH lengths AS (
    SELECT tenant_id, conversation_id, count(*) AS messages, min(sent_at) AS began, max(sent_at) AS ended
    FROM messages
    GROUP BY tenant_id, conversation_id
    ORDER BY messages DESC, began, conversation_id
    LIMIT 15
)
SELECT t.slug AS tenant, c.title, c.project, l.messages, l.began,
       date_diff('minute', l.began, l.ended) AS minutes,
       (SELECT count(*) FROM facts f
        WHERE f.tenant_id = l.tenant_id AND f.conversation_id = l.conversation_id) AS facts
FROM lengths l
JOIN conversations c USING (tenant_id, conversation_id)
JOIN tenants t USING (tenant_id)
ORDER BY l.messages DESC, l.began, l.conversation_id
