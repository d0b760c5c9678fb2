-- The named conversation if the user takes part in it, else (none named) the one the user's newest turn is in.
SELECT conversation_id
FROM memories
WHERE tenant_id = %(tenant_id)s AND user_id = %(user_id)s AND kind = 'episode' AND status <> 'deleted'
  AND (%(conversation_id)s::uuid IS NULL OR conversation_id = %(conversation_id)s)
ORDER BY memory_id DESC
LIMIT 1
