-- Texts of this window that are embedded already, under the same tenant and model, for another memory (or for this one
-- before it changed and changed back): copied, not embedded again.
INSERT INTO memory_embeddings AS e (tenant_id, memory_id, model, chunk, chunks, dimension, embedding, content_hash)
SELECT m.tenant_id, m.memory_id, %(model)s, known.chunk, known.chunks, known.dimension, known.embedding, m.content_hash
FROM memories m
CROSS JOIN LATERAL (
    SELECT k.memory_id
    FROM memory_embeddings k
    WHERE k.tenant_id = m.tenant_id AND k.model = %(model)s AND k.content_hash = m.content_hash
    LIMIT 1
) donor
JOIN memory_embeddings known ON known.tenant_id = m.tenant_id AND known.memory_id = donor.memory_id
    AND known.model = %(model)s AND known.content_hash = m.content_hash
WHERE m.day >= %(start)s AND m.day < %(end)s AND m.status IN ('active', 'superseded')
  AND NOT EXISTS (
      SELECT FROM memory_embeddings own
      WHERE own.tenant_id = m.tenant_id AND own.memory_id = m.memory_id AND own.model = %(model)s
        AND own.content_hash = m.content_hash)
ON CONFLICT (tenant_id, memory_id, model, chunk) DO UPDATE SET
    chunks = excluded.chunks, dimension = excluded.dimension, embedding = excluded.embedding,
    content_hash = excluded.content_hash, created_at = now()
