-- Vectors of these memories that the index lacks or has of another version. (On OFFSET 0 and the subquery: index_due.)
SELECT e.memory_id, e.chunk
FROM unnest(%(named_ids)s::uuid[]) AS n (memory_id)
CROSS JOIN LATERAL (
    SELECT * FROM memories m WHERE m.tenant_id = (SELECT %(tenant_id)s::uuid) AND m.memory_id = n.memory_id OFFSET 0
) m
CROSS JOIN LATERAL (
    SELECT *
    FROM memory_embeddings e
    WHERE e.tenant_id = m.tenant_id AND e.memory_id = m.memory_id AND e.model = %(model)s
    OFFSET 0
) e
LEFT JOIN LATERAL (
    SELECT *
    FROM index_entries i
    WHERE i.tenant_id = m.tenant_id AND i.generation_id = %(generation_id)s AND i.memory_id = m.memory_id
      AND i.chunk = e.chunk
    OFFSET 0
) i ON true
WHERE m.status IN ('active', 'superseded') AND e.content_hash = m.content_hash
  AND (e.memory_id, e.chunk) > (%(after_memory)s, %(after_chunk)s)
  AND (i.version IS NULL OR i.version <> m.version OR i.content_hash <> m.content_hash)
ORDER BY e.memory_id, e.chunk
LIMIT %(limit)s
