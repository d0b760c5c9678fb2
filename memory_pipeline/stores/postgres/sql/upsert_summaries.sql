-- One that says the same as before is left alone, also where it failed later on; one that the stage withdrew comes back;
-- one that a person deleted does not.
INSERT INTO memories AS m (tenant_id, memory_id, user_id, kind, status, content, content_hash, day, source_message_ids,
                           enricher, valid_from, valid_to, search_vector)
SELECT tenant_id, memory_id, user_id, 'summary', 'active', content, sha256(convert_to(content, 'UTF8')), day,
       source_message_ids, %(summarizer)s, %(week)s::date AT TIME ZONE 'UTC', (%(week)s::date + 7) AT TIME ZONE 'UTC',
       to_tsvector('english', content)
FROM made_summary
ORDER BY tenant_id, memory_id
ON CONFLICT (tenant_id, memory_id) DO UPDATE SET
    status = 'active', day = excluded.day, content = excluded.content, content_hash = excluded.content_hash,
    source_message_ids = excluded.source_message_ids, enricher = excluded.enricher, raw_data = excluded.raw_data,
    failure_class = NULL, failure_text = NULL,
    search_vector = excluded.search_vector, version = m.version + 1, updated_at = now()
WHERE CASE m.status
    WHEN 'deleted' THEN m.raw_data ->> 'deleted_by' IS NOT DISTINCT FROM 'summarizer'
    ELSE (m.day, m.content_hash, m.source_message_ids) IS DISTINCT FROM
         (excluded.day, excluded.content_hash, excluded.source_message_ids)
    END
