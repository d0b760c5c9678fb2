SELECT conversation_id, user_id, source, source_conversation_id, title, project, created_at
FROM conversations
WHERE tenant_id = %(tenant_id)s AND user_id = %(user_id)s AND conversation_id = %(conversation_id)s
