-- Memories of these days without a vector of their present content under this model, locked for this transaction.
SELECT m.tenant_id, m.memory_id, m.content, m.content_hash
FROM memories m
WHERE m.day >= %(start)s AND m.day < %(end)s AND m.status IN ('active', 'superseded')
  AND NOT EXISTS (
      SELECT FROM memory_embeddings e
      WHERE e.tenant_id = m.tenant_id AND e.memory_id = m.memory_id AND e.model = %(model)s
        AND e.content_hash = m.content_hash)
ORDER BY m.day, m.tenant_id, m.memory_id
LIMIT %(limit)s
FOR NO KEY UPDATE OF m SKIP LOCKED
