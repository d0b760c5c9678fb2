SELECT newest.message_id, newest.conversation_id, newest.role,
       coalesce(newest.speaker, CASE newest.role WHEN 'user' THEN u.display_name ELSE initcap(newest.role) END) AS speaker,
       newest.content, newest.sent_at
FROM (
    SELECT *
    FROM messages
    WHERE tenant_id = %(tenant_id)s AND conversation_id = %(conversation_id)s
    ORDER BY sent_at DESC, position DESC, message_id DESC
    LIMIT %(turns)s
) newest
JOIN users u ON u.tenant_id = newest.tenant_id AND u.user_id = newest.user_id
ORDER BY newest.sent_at, newest.position, newest.message_id
