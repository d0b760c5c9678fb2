INSERT INTO memories AS m (tenant_id, memory_id, user_id, kind, status, content, content_hash, day, source_message_ids,
                           enricher, valid_from, valid_to, search_vector)
VALUES (%(tenant_id)s, %(memory_id)s, %(user_id)s, 'summary', 'active', %(content)s,
        sha256(convert_to(%(content)s, 'UTF8')), %(day)s, %(source_message_ids)s, %(summarizer)s,
        %(week)s::date AT TIME ZONE 'UTC', (%(week)s::date + 7) AT TIME ZONE 'UTC', to_tsvector('english', %(content)s))
ON CONFLICT (tenant_id, memory_id) DO UPDATE SET
    status = 'active', day = excluded.day, content = excluded.content, content_hash = excluded.content_hash,
    source_message_ids = excluded.source_message_ids, enricher = excluded.enricher,
    search_vector = excluded.search_vector, version = m.version + 1, updated_at = now()
WHERE (m.status, m.day, m.content_hash, m.source_message_ids) IS DISTINCT FROM
      ('active', excluded.day, excluded.content_hash, excluded.source_message_ids)
