SELECT tenant_id, conversation_id, user_id, source, source_conversation_id, title, project, created_at
FROM conversations
ORDER BY tenant_id, conversation_id
