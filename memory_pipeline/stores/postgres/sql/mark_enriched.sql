-- to_tsvector refuses texts whose lexemes pass 1 MiB; the first 100,000 characters are enough to be found by.
UPDATE memories m SET
    status = 'active', enricher = %(enricher)s, failure_class = NULL, failure_text = NULL,
    search_vector = coalesce(m.search_vector, to_tsvector('english', left(m.content, 100000))), updated_at = now()
FROM unnest(%(tenant_ids)s::uuid[], %(memory_ids)s::uuid[]) AS done (tenant_id, memory_id)
WHERE m.tenant_id = done.tenant_id AND m.memory_id = done.memory_id
