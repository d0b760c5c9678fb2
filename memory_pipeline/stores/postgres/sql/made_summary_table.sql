CREATE TEMPORARY TABLE IF NOT EXISTS made_summary (
    tenant_id           uuid,
    memory_id           uuid,
    user_id             uuid,
    day                 date,
    content             text,
    source_message_ids  uuid[]
) ON COMMIT DELETE ROWS
