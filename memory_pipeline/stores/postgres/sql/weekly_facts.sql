-- What was found in the messages of a week of these tenants, user by user, in order, each with the messages it rests on.
SELECT m.tenant_id, m.user_id, m.content, m.day, m.source_message_ids
FROM memories m
WHERE m.kind = 'fact' AND m.status IN ('active', 'superseded') AND m.day >= %(start)s AND m.day < %(end)s
  AND (m.tenant_id IN (SELECT unnest(%(tenant_ids)s::uuid[]))) IS TRUE  -- see due_episodes
ORDER BY m.tenant_id, m.user_id, m.day, m.valid_from, m.memory_id
