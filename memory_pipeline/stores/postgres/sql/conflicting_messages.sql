-- Incoming messages whose source id is taken by another message, and what tells that one apart. The time is none of it:
-- a retry without one gets the time of its arrival.
WITH incoming AS MATERIALIZED (
    /*+ incoming */
)
SELECT i.source, i.source_message_id, m.content_hash, m.conversation_id, m.user_id
FROM incoming i
JOIN messages m ON m.tenant_id = current_tenant_id()
    AND m.source = i.source AND m.source_message_id = i.source_message_id
WHERE m.content_hash <> message_hash(i.role, i.speaker, i.content)
   OR m.conversation_id <> i.conversation_id OR m.user_id <> i.user_id
