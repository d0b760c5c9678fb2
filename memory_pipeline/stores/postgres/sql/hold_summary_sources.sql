-- Keep the conversations of these messages from being deleted until this transaction ends.
SELECT FROM conversations c
WHERE c.tenant_id = %(tenant_id)s
  AND c.conversation_id IN (SELECT m.conversation_id FROM messages m
                            WHERE m.tenant_id = %(tenant_id)s AND m.message_id = ANY(%(source_message_ids)s::uuid[]))
ORDER BY c.conversation_id
FOR KEY SHARE
