-- One day of 365 changes: a conversation goes on, and facts of that day come to an end. An hour's share of the
-- completed jobs leaves the ledger in change_one_day, by the call of the relay.
SET search_path = memory, public;
INSERT INTO messages (tenant_id, message_id, conversation_id, user_id, source, source_message_id, role, content,
                      content_hash, sent_at, position)
SELECT tenant_id, gen_random_uuid(), conversation_id, user_id, source, source_message_id || ' again ' || gen_random_uuid(),
       role, content, content_hash, sent_at, position
FROM messages
WHERE sent_at >= '2025-06-01' AND sent_at < '2025-06-01 01:00+00';
UPDATE memories SET status = 'superseded', valid_to = valid_from + interval '1 hour', version = version + 1,
                    updated_at = now()
WHERE day = '2025-06-01' AND kind = 'fact' AND status = 'active';
