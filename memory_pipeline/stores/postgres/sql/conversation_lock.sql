SELECT conversation_id
FROM conversations
WHERE tenant_id = %(tenant_id)s AND user_id = %(user_id)s AND conversation_id = %(conversation_id)s
FOR UPDATE
