-- Episodes of these days that the enricher (this version of it) has not read, locked for this transaction; rows that
-- another run holds are left to it.
SELECT m.tenant_id, m.memory_id, m.user_id, m.conversation_id, m.project, m.day, m.source_message_ids[1] AS message_id,
       s.role, coalesce(s.speaker, u.display_name) AS speaker, s.content, s.sent_at
FROM memories m
JOIN messages s ON s.tenant_id = m.tenant_id AND s.message_id = m.source_message_ids[1]
JOIN users u ON u.tenant_id = m.tenant_id AND u.user_id = m.user_id
WHERE m.day >= %(start)s AND m.day < %(end)s AND m.kind = 'episode'
  AND (m.status = 'pending_enrichment' OR m.status = 'active' AND m.enricher IS DISTINCT FROM %(enricher)s)
ORDER BY m.day, m.tenant_id, m.memory_id
LIMIT %(limit)s
FOR NO KEY UPDATE OF m SKIP LOCKED
