-- A user's conversations, newest first, after the last one of the page before.
SELECT c.conversation_id, c.user_id, c.source, c.source_conversation_id, c.title, c.project, c.created_at
FROM conversations c
WHERE c.tenant_id = %(tenant_id)s AND c.user_id = %(user_id)s
  AND (%(after_id)s::uuid IS NULL OR (c.created_at, c.conversation_id) <
       (SELECT l.created_at, l.conversation_id FROM conversations l
        WHERE l.tenant_id = %(tenant_id)s AND l.user_id = %(user_id)s AND l.conversation_id = %(after_id)s))
ORDER BY c.created_at DESC, c.conversation_id DESC
LIMIT %(limit)s
