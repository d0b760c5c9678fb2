-- Entries of these memories that must leave the index: the memory is gone, deleted or failed, or shorter than it was.
-- (On OFFSET 0 and the subqueries: index_due.)
SELECT i.memory_id, i.chunk
FROM unnest(%(named_ids)s::uuid[]) AS n (memory_id)
CROSS JOIN LATERAL (
    SELECT *
    FROM index_entries i
    WHERE i.tenant_id = (SELECT %(tenant_id)s::uuid) AND i.generation_id = %(generation_id)s
      AND i.memory_id = n.memory_id
    OFFSET 0
) i
LEFT JOIN LATERAL (
    SELECT * FROM memories m WHERE m.tenant_id = i.tenant_id AND m.memory_id = i.memory_id OFFSET 0
) m ON true
LEFT JOIN LATERAL (
    SELECT *
    FROM memory_embeddings e
    WHERE e.tenant_id = i.tenant_id AND e.memory_id = i.memory_id AND e.model = %(model)s AND e.chunk = 0
    OFFSET 0
) first_chunk ON true
WHERE m.memory_id IS NULL OR m.status IN ('deleted', 'failed')
   OR i.chunk > 0 AND i.chunk >= first_chunk.chunks AND first_chunk.content_hash = m.content_hash
LIMIT %(limit)s
