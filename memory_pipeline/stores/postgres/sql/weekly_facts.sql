-- What was found in the messages of a week of these tenants, user by user, in order, each with the messages it rests on.
SELECT m.tenant_id, m.user_id, m.content, m.day, m.source_message_ids
FROM memories m
JOIN unnest(%(tenant_ids)s::uuid[]) AS t (tenant_id) USING (tenant_id)
WHERE m.kind = 'fact' AND m.status IN ('active', 'superseded') AND m.day >= %(start)s AND m.day < %(end)s
ORDER BY m.tenant_id, m.user_id, m.day, m.valid_from, m.memory_id
