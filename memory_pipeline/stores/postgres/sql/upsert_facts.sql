-- Facts as found now. A fact that says the same as before is left alone, so its version (and with it its vector and
-- index entry) stays; one that an earlier version of the enricher withdrew comes back.
INSERT INTO memories AS m (tenant_id, memory_id, user_id, conversation_id, kind, status, content, content_hash, day,
                           source_message_ids, project, raw_data, enricher, confidence, subject, predicate, object,
                           negated, slot, valid_from, valid_to, search_vector)
SELECT tenant_id, memory_id, user_id, conversation_id, 'fact', 'active', content, sha256(convert_to(content, 'UTF8')),
       day, ARRAY[message_id], project,
       CASE WHEN stated_valid_to IS NULL THEN '{}' ELSE jsonb_build_object('stated_valid_to', stated_valid_to) END,
       %(enricher)s, confidence, subject, predicate, object, negated, slot, valid_from, stated_valid_to,
       to_tsvector('english', content)
FROM found_fact
ORDER BY tenant_id, memory_id
ON CONFLICT (tenant_id, memory_id) DO UPDATE SET
    status = CASE m.status WHEN 'superseded' THEN 'superseded' ELSE 'active' END,
    content = excluded.content, content_hash = excluded.content_hash, project = excluded.project,
    raw_data = excluded.raw_data, enricher = excluded.enricher, confidence = excluded.confidence, slot = excluded.slot,
    valid_from = excluded.valid_from, valid_to = excluded.valid_to, search_vector = excluded.search_vector,
    version = m.version + 1, updated_at = now()
WHERE (m.content_hash, m.confidence, m.slot, m.valid_from, m.project)
      IS DISTINCT FROM (excluded.content_hash, excluded.confidence, excluded.slot, excluded.valid_from, excluded.project)
   OR m.raw_data ->> 'stated_valid_to' IS DISTINCT FROM excluded.raw_data ->> 'stated_valid_to'
   OR m.status = 'deleted' AND m.raw_data ->> 'deleted_by' = 'enricher'
