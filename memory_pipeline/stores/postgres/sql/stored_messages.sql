-- What is stored under the keys of the incoming messages, in the order they came.
SELECT m.source, m.source_message_id, m.message_id, m.conversation_id, m.role, m.speaker, m.content, m.sent_at, m.position
FROM incoming i
JOIN messages m ON m.tenant_id = current_tenant_id()
    AND m.source = i.source AND m.source_message_id = i.source_message_id
ORDER BY i.position
