-- What the index of a tenant should hold under a model.
SELECT e.memory_id, e.chunk, m.version, m.content_hash
FROM memory_embeddings e
JOIN memories m ON m.tenant_id = e.tenant_id AND m.memory_id = e.memory_id AND m.content_hash = e.content_hash
WHERE e.tenant_id = %(tenant_id)s AND e.model = %(model)s AND e.chunk < e.chunks
  AND m.status IN ('active', 'superseded')
