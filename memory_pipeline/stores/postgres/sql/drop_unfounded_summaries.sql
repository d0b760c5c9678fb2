-- Those that rest on a message which was deleted after it had been read.
DELETE FROM made_summary s
WHERE EXISTS (
    SELECT
    FROM unnest(s.source_message_ids) AS source (message_id)
    WHERE NOT EXISTS (SELECT FROM messages m WHERE m.tenant_id = s.tenant_id AND m.message_id = source.message_id)
)
