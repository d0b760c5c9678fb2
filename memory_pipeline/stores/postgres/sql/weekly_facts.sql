-- What was found in a user's messages of a week, in order, each with the messages it rests on.
SELECT m.content, m.day, m.source_message_ids
FROM memories m
WHERE m.tenant_id = %(tenant_id)s AND m.user_id = %(user_id)s AND m.kind = 'fact' AND m.status IN ('active', 'superseded')
  AND m.day >= %(start)s AND m.day < %(end)s
ORDER BY m.day, m.valid_from, m.memory_id
