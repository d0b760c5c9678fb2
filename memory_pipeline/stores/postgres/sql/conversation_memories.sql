-- What was made of a conversation's messages one by one, and what rests on them among others.
WITH speaker AS MATERIALIZED (
    SELECT user_id, message_id
    FROM messages
    WHERE tenant_id = %(tenant_id)s AND conversation_id = %(conversation_id)s
)
SELECT m.memory_id
FROM memories m
WHERE m.tenant_id = %(tenant_id)s AND m.user_id IN (SELECT user_id FROM speaker)
  AND (m.conversation_id = %(conversation_id)s
       OR m.conversation_id IS NULL AND EXISTS (SELECT FROM unnest(m.source_message_ids) AS source (message_id)
                                                WHERE source.message_id IN (SELECT message_id FROM speaker)))
