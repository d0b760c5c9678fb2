-- The newest messages of a conversation, or the newest of those before one of its messages; oldest first.
SELECT newest.source, newest.source_message_id, newest.message_id, newest.conversation_id, newest.role, newest.speaker,
       newest.content, newest.sent_at, newest.position
FROM (
    SELECT *
    FROM messages
    WHERE tenant_id = %(tenant_id)s AND conversation_id = %(conversation_id)s
      AND (%(before_id)s::uuid IS NULL OR (sent_at, position, message_id) <
           (SELECT b.sent_at, b.position, b.message_id FROM messages b
            WHERE b.tenant_id = %(tenant_id)s AND b.conversation_id = %(conversation_id)s
              AND b.message_id = %(before_id)s))
    ORDER BY sent_at DESC, position DESC, message_id DESC
    LIMIT %(limit)s
) newest
ORDER BY newest.sent_at, newest.position, newest.message_id
