-- Keep the conversations that the summaries rest on from being deleted until this transaction ends.
SELECT count(*)
FROM (
    SELECT
    FROM conversations c
    WHERE (c.tenant_id, c.conversation_id) IN (
        SELECT m.tenant_id, m.conversation_id
        FROM made_summary s
        CROSS JOIN LATERAL unnest(s.source_message_ids) AS source (message_id)
        JOIN messages m ON m.tenant_id = s.tenant_id AND m.message_id = source.message_id
    )
    ORDER BY c.tenant_id, c.conversation_id
    FOR KEY SHARE OF c
) held
