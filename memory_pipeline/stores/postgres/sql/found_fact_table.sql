CREATE TEMPORARY TABLE IF NOT EXISTS found_fact (
    tenant_id        uuid,
    memory_id        uuid,
    user_id          uuid,
    conversation_id  uuid,
    message_id       uuid,
    day              date,
    project          text,
    content          text,
    subject          text,
    predicate        text,
    object           text,
    negated          boolean,
    slot             text,
    confidence       real,
    valid_from       timestamptz,
    stated_valid_to  timestamptz
) ON COMMIT DELETE ROWS
