-- Whether a conversation has an episode.
SELECT
FROM memories
WHERE tenant_id = %(tenant_id)s AND conversation_id = %(conversation_id)s AND kind = 'episode'
  AND user_id IN (SELECT user_id FROM messages
                  WHERE tenant_id = %(tenant_id)s AND conversation_id = %(conversation_id)s)
LIMIT 1
