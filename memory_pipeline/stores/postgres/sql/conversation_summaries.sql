-- Memories of no one conversation that rest on a message of this one, in the order in which they are to be deleted.
SELECT m.memory_id
FROM memories m
WHERE m.tenant_id = %(tenant_id)s AND m.conversation_id IS NULL
  AND m.user_id IN (SELECT s.user_id FROM messages s
                    WHERE s.tenant_id = %(tenant_id)s AND s.conversation_id = %(conversation_id)s)
  AND EXISTS (SELECT FROM unnest(m.source_message_ids) AS source (message_id)
              WHERE source.message_id IN (SELECT s.message_id FROM messages s
                                          WHERE s.tenant_id = %(tenant_id)s AND s.conversation_id = %(conversation_id)s))
ORDER BY m.memory_id
