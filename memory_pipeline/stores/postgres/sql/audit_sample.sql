-- A few vectors of a tenant, the same ones for the same seed, to be asked for themselves.
SELECT e.memory_id, e.chunk, e.embedding
FROM memory_embeddings e
JOIN memories m ON m.tenant_id = e.tenant_id AND m.memory_id = e.memory_id AND m.content_hash = e.content_hash
WHERE e.tenant_id = %(tenant_id)s AND e.model = %(model)s AND m.status IN ('active', 'superseded')
ORDER BY hashtextextended(e.memory_id::text, %(seed)s), e.chunk
LIMIT %(limit)s
