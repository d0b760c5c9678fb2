-- The turns around given messages: three before and two after each, so that the window of every turn beside a given one
-- is whole. `is_candidate` marks the given turns and their direct neighbours.
SELECT near.message_id, bool_or(near.distance <= 1) AS is_candidate
FROM messages given
CROSS JOIN LATERAL (
    (SELECT message_id, row_number() OVER (ORDER BY sent_at DESC, position DESC, message_id DESC) - 1 AS distance
     FROM messages
     WHERE tenant_id = %(tenant_id)s AND conversation_id = given.conversation_id AND user_id = %(user_id)s
       AND role IN ('user', 'assistant')
       AND (sent_at, position, message_id) <= (given.sent_at, given.position, given.message_id)
     ORDER BY sent_at DESC, position DESC, message_id DESC
     LIMIT 4)
    UNION ALL
    (SELECT message_id, row_number() OVER (ORDER BY sent_at, position, message_id) AS distance
     FROM messages
     WHERE tenant_id = %(tenant_id)s AND conversation_id = given.conversation_id AND user_id = %(user_id)s
       AND role IN ('user', 'assistant')
       AND (sent_at, position, message_id) > (given.sent_at, given.position, given.message_id)
     ORDER BY sent_at, position, message_id
     LIMIT 2)
) near
WHERE given.tenant_id = %(tenant_id)s AND given.message_id = ANY (%(message_ids)s)
GROUP BY near.message_id
ORDER BY near.message_id
