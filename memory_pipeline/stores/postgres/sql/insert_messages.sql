-- Messages that are new, their conversations, their episode memories, the jobs that ask for enrichment (where wanted), and
-- one event per conversation, in one statement: all or nothing. Conversations without a new message are not made. Messages go in by id and conversations by theirs, so
-- that two writers of the same ones wait for each other instead of deadlocking.
WITH new_messages AS (
    INSERT INTO messages (tenant_id, message_id, conversation_id, user_id, source, source_message_id, role, speaker,
                          content, content_hash, sent_at, position, raw_data)
    SELECT current_tenant_id(), message_id, conversation_id, user_id, source, source_message_id, role, speaker,
           content, message_hash(role, speaker, content), sent_at, position, raw_data
    FROM incoming
    ORDER BY message_id
    ON CONFLICT (tenant_id, source, source_message_id) DO NOTHING
    RETURNING message_id, conversation_id
), new_conversations AS (
    INSERT INTO conversations (tenant_id, conversation_id, user_id, source, source_conversation_id, title, project)
    SELECT current_tenant_id(), c.conversation_id, c.user_id, c.source, c.source_conversation_id, c.title, c.project
    FROM unnest(%(conversation_ids)s::uuid[], %(user_ids)s::uuid[], %(sources)s::text[],
                %(source_conversation_ids)s::text[], %(titles)s::text[], %(projects)s::text[])
        AS c (conversation_id, user_id, source, source_conversation_id, title, project)
    WHERE c.conversation_id IN (SELECT conversation_id FROM new_messages)
    ORDER BY c.conversation_id
    ON CONFLICT DO NOTHING
    RETURNING conversation_id, created_at
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
), new_jobs AS (
    INSERT INTO memory_jobs (tenant_id, job_type, subject_id, user_id, day, correlation_id)
    SELECT current_tenant_id(), 'enrich_and_embed', i.memory_id, i.user_id, (i.sent_at AT TIME ZONE 'UTC')::date,
           %(correlation_id)s
    FROM incoming i
    JOIN new_messages USING (message_id)
    WHERE %(with_jobs)s AND i.memory_id IS NOT NULL
), log AS (
    INSERT INTO events (tenant_id, kind, actor, subject_id, correlation_id, detail)
    SELECT current_tenant_id(), 'messages_ingested', %(actor)s, conversation_id, %(correlation_id)s,
           jsonb_build_object('messages', count(*))
    FROM new_messages
    GROUP BY conversation_id
)
SELECT (SELECT count(*) FROM new_messages),
       (SELECT array_agg(conversation_id) FROM new_conversations),
       (SELECT array_agg(created_at) FROM new_conversations)
