-- Of these (locked) episodes, those that this version of the enricher still has not read, with their messages.
SELECT m.tenant_id, m.memory_id, m.user_id, m.conversation_id, m.project, m.day, m.source_message_ids[1] AS message_id,
       s.role, coalesce(s.speaker, u.display_name) AS speaker, s.content, s.sent_at
FROM unnest(%(tenant_ids)s::uuid[], %(memory_ids)s::uuid[]) AS locked (tenant_id, memory_id)
JOIN memories m USING (tenant_id, memory_id)
JOIN messages s ON s.tenant_id = m.tenant_id AND s.message_id = m.source_message_ids[1]
JOIN users u ON u.tenant_id = m.tenant_id AND u.user_id = m.user_id
WHERE m.status = 'pending_enrichment' OR m.status = 'active' AND m.enricher IS DISTINCT FROM %(enricher)s
ORDER BY m.day, m.tenant_id, m.memory_id
