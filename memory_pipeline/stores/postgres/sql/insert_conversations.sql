-- In id order, so that two writers with the same conversations wait for each other instead of deadlocking.
INSERT INTO conversations (tenant_id, conversation_id, user_id, source, source_conversation_id, title, project)
SELECT DISTINCT ON (conversation_id)
    current_tenant_id(), conversation_id, user_id, source, source_conversation_id, conversation_title, project
FROM incoming
ORDER BY conversation_id, sent_at, position
ON CONFLICT DO NOTHING
