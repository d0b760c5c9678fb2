-- One day of 365 gets late messages: a conversation goes on.
SET search_path = memory, public;
INSERT INTO messages (tenant_id, message_id, conversation_id, user_id, source, source_message_id, role, content,
                      content_hash, sent_at, position)
SELECT tenant_id, gen_random_uuid(), conversation_id, user_id, source, source_message_id || ' again ' || gen_random_uuid(),
       role, content, content_hash, sent_at, position
FROM messages
WHERE sent_at >= '2025-06-01' AND sent_at < '2025-06-01 01:00+00' AND source_message_id NOT LIKE '% again %';
