-- Facts as found now. A fact that says the same as before is left alone, so its version (and with it its vector and
-- index entry) stays; one that an earlier version of the enricher withdrew comes back; one that a person deleted does not.
-- to_tsvector refuses texts whose lexemes pass 1 MiB; the first 100,000 characters are enough to be found by.
INSERT INTO memories AS m (tenant_id, memory_id, user_id, conversation_id, kind, status, content, content_hash, day,
                           source_message_ids, project, raw_data, enricher, confidence, subject, predicate, object,
                           negated, slot, valid_from, valid_to, search_vector)
SELECT tenant_id, memory_id, user_id, conversation_id, 'fact', 'active', content, sha256(convert_to(content, 'UTF8')),
       day, ARRAY[message_id], project,
       CASE WHEN stated_valid_to IS NULL THEN '{}' ELSE jsonb_build_object('stated_valid_to', stated_valid_to) END,
       %(enricher)s, confidence, subject, predicate, object, negated, slot, valid_from, stated_valid_to,
       to_tsvector('english', left(content, 100000))
FROM found_fact
ORDER BY tenant_id, memory_id
ON CONFLICT (tenant_id, memory_id) DO UPDATE SET
    status = CASE m.status WHEN 'superseded' THEN 'superseded' ELSE 'active' END,
    superseded_by = CASE m.status WHEN 'superseded' THEN m.superseded_by END,
    failure_class = NULL, failure_text = NULL,
    content = excluded.content, content_hash = excluded.content_hash, project = excluded.project,
    raw_data = excluded.raw_data, enricher = excluded.enricher, confidence = excluded.confidence,
    valid_from = excluded.valid_from, valid_to = excluded.valid_to, search_vector = excluded.search_vector,
    version = m.version + 1, updated_at = now()
WHERE CASE m.status
    WHEN 'deleted' THEN m.raw_data ->> 'deleted_by' IS NOT DISTINCT FROM 'enricher'
    ELSE (m.content_hash, m.confidence, m.valid_from, m.project, m.raw_data ->> 'stated_valid_to') IS DISTINCT FROM
         (excluded.content_hash, excluded.confidence, excluded.valid_from, excluded.project,
          excluded.raw_data ->> 'stated_valid_to')
    END
