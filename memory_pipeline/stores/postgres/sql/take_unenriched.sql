-- Of these (locked) episodes, those that this version of the enricher still has not read and may read, with their
-- messages. OFFSET 0 has the episodes found first: by the tenant alone, the planner would pair every one of them with every user.
SELECT m.tenant_id, m.memory_id, m.user_id, m.conversation_id, m.project, m.day, s.message_id, s.role,
       coalesce(s.speaker, u.display_name) AS speaker, s.content, s.sent_at, m.enricher IS NOT NULL AS was_read
FROM (
    SELECT e.*
    FROM unnest(%(tenant_ids)s::uuid[], %(memory_ids)s::uuid[]) AS locked (tenant_id, memory_id)
    JOIN memories e USING (tenant_id, memory_id)
    WHERE (e.status = 'pending_enrichment' OR e.status = 'active' AND e.enricher IS DISTINCT FROM %(enricher)s)
      AND (e.tenant_id IN (SELECT tenant_id FROM permitted_plugins WHERE plugin = %(plugin)s AND role = 'pipeline'))
          IS TRUE  -- see due_episodes
    OFFSET 0
) m
JOIN messages s ON s.tenant_id = m.tenant_id AND s.message_id = m.source_message_ids[1]
JOIN users u ON u.tenant_id = m.tenant_id AND u.user_id = m.user_id
ORDER BY m.day, m.tenant_id, m.memory_id
