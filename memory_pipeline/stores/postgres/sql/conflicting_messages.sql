-- Incoming messages whose source id is taken by a message with other content, and the hash of that.
SELECT i.source, i.source_message_id, m.content_hash
FROM incoming i
JOIN messages m ON m.tenant_id = current_tenant_id()
    AND m.source = i.source AND m.source_message_id = i.source_message_id
WHERE m.content_hash <> message_hash(i.role, i.speaker, i.content)
