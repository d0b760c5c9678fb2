-- What users of these tenants said in a week, user by user, in order; the source of their weekly summaries.
SELECT s.tenant_id, s.user_id, s.message_id, s.conversation_id, s.role, coalesce(s.speaker, u.display_name) AS speaker,
       s.content, s.sent_at
FROM messages s
JOIN users u ON u.tenant_id = s.tenant_id AND u.user_id = s.user_id
WHERE s.sent_at >= %(start)s AND s.sent_at < %(end)s AND s.role = 'user'
  AND (s.tenant_id IN (SELECT unnest(%(tenant_ids)s::uuid[]))) IS TRUE  -- see due_episodes
ORDER BY s.tenant_id, s.user_id, s.sent_at, s.position, s.message_id
