-- Where a batch lands first. COPY can't write into a table with row-level security, and a temporary one has none;
-- from here the rows go through the policies like any INSERT.
CREATE TEMPORARY TABLE IF NOT EXISTS incoming_batch (
    message_id               uuid,
    conversation_id          uuid,
    user_id                  uuid,
    source                   text,
    source_message_id        text,
    project                  text,
    role                     text,
    speaker                  text,
    content                  text,
    sent_at                  timestamptz,
    position                 bigint,
    raw_data                 jsonb,
    memory_id                uuid,
    memory_speaker           text
) ON COMMIT DELETE ROWS
