-- What recall shows, read from the rows themselves: the memories of these ids that are this user's now, each with the
-- messages it rests on. An id of somebody else's, or of a deleted memory, gives no row.
SELECT m.memory_id, m.kind, m.content, m.project, m.confidence, m.valid_from, m.valid_to,
       coalesce(said.sources, '[]') AS sources
FROM memories m
LEFT JOIN LATERAL (
    SELECT json_agg(json_build_object(
               'message_id', s.message_id, 'conversation_id', s.conversation_id, 'source', s.source,
               'source_message_id', s.source_message_id, 'said_at', s.sent_at,
               'speaker', coalesce(s.speaker, CASE s.role WHEN 'user' THEN u.display_name ELSE initcap(s.role) END))
           ORDER BY s.sent_at, s.position, s.message_id) AS sources
    FROM messages s
    JOIN users u ON u.tenant_id = s.tenant_id AND u.user_id = s.user_id
    WHERE s.tenant_id = m.tenant_id AND s.message_id = ANY (m.source_message_ids)
) said ON true
WHERE m.tenant_id = %(tenant_id)s AND m.user_id = %(user_id)s AND m.memory_id = ANY (%(memory_ids)s)
  AND m.status NOT IN ('deleted', 'superseded') AND (%(project)s::text IS NULL OR m.project = %(project)s)
