-- Messages that are new, their episode memories, and one event per conversation, in one statement: all or nothing.
WITH new_messages AS (
    INSERT INTO messages (tenant_id, message_id, conversation_id, user_id, source, source_message_id, role, speaker,
                          content, content_hash, sent_at, position, raw_data)
    SELECT current_tenant_id(), message_id, conversation_id, user_id, source, source_message_id, role, speaker,
           content, message_hash(role, speaker, content), sent_at, position, raw_data
    FROM incoming
    ORDER BY message_id
    ON CONFLICT (tenant_id, source, source_message_id) DO NOTHING
    RETURNING message_id, conversation_id
), new_memories AS (
    INSERT INTO memories (tenant_id, memory_id, user_id, conversation_id, kind, status, content, content_hash, day,
                          source_message_ids, project)
    SELECT current_tenant_id(), i.memory_id, i.user_id, i.conversation_id, 'episode', 'pending_enrichment',
           e.content, sha256(convert_to(e.content, 'UTF8')), (i.sent_at AT TIME ZONE 'UTC')::date,
           ARRAY[i.message_id], i.project
    FROM incoming i
    JOIN new_messages USING (message_id)
    CROSS JOIN LATERAL (SELECT i.memory_speaker || ': ' || i.content AS content) e
    WHERE i.memory_id IS NOT NULL
), log AS (
    INSERT INTO events (tenant_id, kind, actor, subject_id, correlation_id, detail)
    SELECT current_tenant_id(), 'messages_ingested', %(actor)s, conversation_id, %(correlation_id)s,
           jsonb_build_object('messages', count(*))
    FROM new_messages
    GROUP BY conversation_id
)
SELECT count(*) FROM new_messages
